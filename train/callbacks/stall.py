"""Stall detector of a worker: a thread beside the trainer that reports where it stands still."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from train.dataloader.dataset import MicroBatchDataset
from train.events import ProgressActor, Stalled

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

_PATIENCE_S = 60.0
_SLOWER = 5  # times the longest step so far is slow, but has been seen
_LOOK_EVERY_S = 1.0
_ROOT = Path(__file__).resolve().parents[2]
_FRAMES = 3


class StallDetector(TrainerCallback):
    """Tells the progress actor of a step that takes a minute and five times as long as any before, again at twice that.

    It says whether the worker waits for data, computes (which with several workers may be waiting for another one), or
    is at a checkpoint with its evaluation, and in which lines of ours.
    """

    def __init__(
        self,
        progress: ProgressActor | None,
        rank: int,
        dataset: MicroBatchDataset,
        step: int = 0,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._progress, self._rank, self._dataset, self._patience_s = progress, rank, dataset, patience_s
        self._step, self._longest_s, self._saving = step, 0.0, False
        self._since = time.monotonic()
        self._done = threading.Event()

    @contextmanager
    def beating(self, trainer: Trainer) -> Iterator[None]:
        """Watch the thread that enters the block, for its length."""
        if self._progress is None:
            yield
            return
        trainer.add_callback(self)
        thread = threading.Thread(target=self._watch, args=(threading.get_ident(),), name="pulse", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Take note that a step is over; what comes next may be a checkpoint."""
        now = time.monotonic()
        self._longest_s = max(self._longest_s, now - self._since)
        self._since, self._step, self._saving = now, state.global_step, True

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Take note that a checkpoint, if there was one, is over; the step's data is there."""
        if self._saving:
            self._since, self._saving = time.monotonic(), False

    def _watch(self, thread: int) -> None:
        since, told_s = self._since, 0.0
        while not self._done.wait(min(_LOOK_EVERY_S, self._patience_s / 4)):
            if since != self._since:
                since, told_s = self._since, 0.0
            seconds = time.monotonic() - since
            if seconds >= max(self._patience_s, _SLOWER * self._longest_s, 2 * told_s):
                told_s = seconds
                entry = Stalled(self._rank, self._step + 1, seconds, self._doing(), _where(thread))
                if self._progress is not None:
                    self._progress.post.remote(entry)

    def _doing(self) -> str:
        if self._dataset.waiting:
            return "waiting for data"
        return "at a checkpoint" if self._saving else "computing, or waiting for other workers"


def _where(thread: int) -> str:
    """Return the innermost lines of this project that a thread is in, and the innermost line of all."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "it has ended"
    stack = traceback.extract_stack(frame)
    ours = [line for line in stack if Path(line.filename).is_relative_to(_ROOT) and ".venv" not in line.filename]
    lines = [*ours[-_FRAMES:], *(stack[-1:] if stack[-1] not in ours else [])]
    return " > ".join(f"{Path(line.filename).name}:{line.lineno} {line.name}" for line in lines)
