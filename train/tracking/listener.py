"""Listener of the driver: passes what workers post to the history, the trackers and the person who watches."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from train import console
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig
from train.events import Entry, Failed, Progress, ProgressActor, ProgressBoard, Scored, Stalled
from train.tracking.history import History
from train.tracking.trackers import Tracker, scored_figures, step_figures, trackers

_POLL_S = 1.0
_ANSWER_S = 10.0
_PUBLISH_EVERY_POLLS = 60


class Listener:
    """Takes entries in the order in which they were posted; the one writer of a run's history."""

    def __init__(
        self,
        history: History,
        trackers: list[Tracker],
        on_progress: Callable[[Progress], None] | None = None,
        on_scored: Callable[[Scored], None] | None = None,
    ) -> None:
        self._history, self._trackers = history, trackers
        self._on_progress, self._on_scored = on_progress, on_scored

    def take(self, entry: Entry) -> None:
        """Write one entry into the history and tell the trackers, or say it on the console."""
        match entry:
            case Progress():
                if self._history.cut_by(entry):
                    self._tell(lambda tracker: tracker.cut(entry.resumed_at))
                self._log(entry.step, step_figures(self._history.add_step(entry)))
                if self._on_progress is not None:
                    self._on_progress(replace(entry, wer=self._history.wer))
            case Scored():
                if self._history.add_scored(entry):
                    self._log(entry.step, scored_figures(entry))
                    if self._on_scored is not None:
                        self._on_scored(entry)
            case Failed():
                self._history.add_failed(entry)
                console.say(f"the evaluation of step {entry.step} failed, training goes on: {entry.error}")
            case Stalled():
                stands = f"{entry.seconds:.0f} s in step {entry.step} so far"
                console.say(f"worker {entry.rank}: {stands}: {entry.doing}; at {entry.where}")

    def close(self) -> None:
        """Finish all trackers and bring the run's folder up to date."""
        self._tell(lambda tracker: tracker.close())
        self._history.publish()

    def _log(self, step: int, figures: Mapping[str, float]) -> None:
        self._tell(lambda tracker: tracker.log(step, figures))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                what(tracker)
            except Exception as error:  # whatever it is: a run must not die of a chart
                self._trackers.remove(tracker)
                console.say(f"{type(tracker).__name__} is told no more: {type(error).__name__}: {error}")


@contextlib.contextmanager
def watching(
    run: RunFolder,
    config: TrainConfig,
    on_progress: Callable[[Progress], None] | None = None,
    on_scored: Callable[[Scored], None] | None = None,
) -> Iterator[tuple[ProgressActor, Path]]:
    """Yield a run's progress actor and history file. Once the block has ended, all that was posted is in the file."""
    history = History(run.uri)
    told = trackers(config.tracking, config.run.name, run.uri, _settings(config))
    listener = Listener(history, told, on_progress, on_scored)
    # On the driver's own node: elsewhere it could be lost with a worker's node, and with it all news of the run.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    progress = ray.remote(num_cpus=0, scheduling_strategy=here)(ProgressBoard).remote(history.scored)
    done = threading.Event()
    mistakes: list[Exception] = []

    def watch() -> None:
        arrived, polls, finished = 0, 0, False
        try:
            while not finished:
                finished = done.wait(_POLL_S)  # and then one look more: at the last step
                polls += 1
                with contextlib.suppress(ray.exceptions.RayError):  # the cluster is gone, as the run itself will notice
                    for number, entry in ray.get(progress.fetch.remote(arrived), timeout=_ANSWER_S):
                        arrived = number
                        listener.take(entry)
                if polls % _PUBLISH_EVERY_POLLS == 0:
                    history.publish()
        except Exception as error:
            mistakes.append(error)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield progress, history.path
    finally:
        done.set()
        thread.join()
        listener.close()
    if mistakes:
        raise mistakes[0]


def _settings(config: TrainConfig) -> dict[str, object]:
    return config.model_dump(mode="json")
