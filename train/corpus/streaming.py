"""Sources of unknown length: read in order, once for all workers, and planned a window of utterances at a time."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import numpy as np
import ray

from asr.data.sources import SourceConfig, rows
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.utterance import Quarantined
from train.corpus.table import Utterances, ValidatedUtterance, collect, micro_batch_specs
from train.corpus.validation import CorpusValidator
from train.examples import MicroBatchSpec
from train.sampling.batching import Epoch, MicroBatch, OptimizerStep
from train.sampling.sampler import Ordering

_KEPT = 3  # windows: the one that is trained on, the one that is planned, and one for a worker that lags behind


@dataclass(frozen=True)
class StreamWindow:
    """A stretch of a stream with its steps, numbered from ``first_step`` of the whole run on."""

    number: int
    first_step: int
    steps: Epoch
    utterances: Utterances
    quarantined: tuple[Quarantined, ...]

    @property
    def end_step(self) -> int:
        """The step behind its last one."""
        return self.first_step + len(self.steps)


class _Tape:
    """A source that begins again when it ends."""

    def __init__(self, source: SourceConfig, prefix: str, validator: CorpusValidator) -> None:
        self._source, self._prefix, self._validator = source, prefix, validator
        self.quarantined: list[Quarantined] = []
        self.passes = -1
        self._left: deque[ValidatedUtterance] = deque()
        self._rows: Iterator[ValidatedUtterance] = iter(())

    def take(self, clips: int, to_the_end: int = 0) -> list[ValidatedUtterance]:
        """Return ``clips`` utterances, or those left of this pass where they are ``to_the_end`` at most."""
        if not self._left:
            self._left.extend(islice(self._rows, 1))
        if not self._left:
            self._begin()
        self._left.extend(islice(self._rows, max(to_the_end + 1, clips) - len(self._left)))
        if len(self._left) <= to_the_end:
            clips = len(self._left)
        return [self._left.popleft() for _ in range(min(clips, len(self._left)))]

    def _begin(self) -> None:
        self.passes += 1
        found = (replace(row, id=f"{self._prefix}{row.id}") for row in rows(self._source, cache_root()))
        self._rows = self._validator.validate(found, self.quarantined)
        self._left.extend(islice(self._rows, 1))
        if not self._left:
            raise UserError(f"{self._source.source}: no utterance that can be trained on")


class Windows:
    """The windows of one stream, or of several sources by their weights, one after the other.

    An epoch of a single stream ends with a window of its own, half to one and a half times as large as the others, so
    that each utterance is met once in it. Beside other sources, each begins again when it ends.
    """

    def __init__(
        self, sources: Sequence[SourceConfig], window_clips: int, validator: CorpusValidator, ordering: Ordering
    ) -> None:
        self._sources, self._window_clips = tuple(sources), window_clips
        self._validator, self._ordering = validator, ordering

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the sources are: what they hold is not known before it is read."""
        given = [source.model_dump(mode="json") for source in self._sources]
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()

    def __iter__(self) -> Iterator[StreamWindow]:
        several = len(self._sources) > 1
        tapes = [
            _Tape(source, f"{number}:" if several else "", self._validator)
            for number, source in enumerate(self._sources)
        ]
        weights = np.array([source.weight or 1.0 for source in self._sources])
        each = weights / weights.sum() * self._window_clips
        first_step = 0
        for number in count():
            if several:
                counts = np.floor(each * (number + 1)) - np.floor(each * number)
                taken = [_through(tape, int(some)) for tape, some in zip(tapes, counts, strict=True)]
            else:
                taken = [tapes[0].take(self._window_clips, self._window_clips * 3 // 2)]
            window = self._window(number, first_step, taken, tapes)
            yield window
            first_step = window.end_step

    def _window(
        self, number: int, first_step: int, taken: list[list[ValidatedUtterance]], tapes: Sequence[_Tape]
    ) -> StreamWindow:
        utterances, sizes = collect(taken)
        epoch = max(tape.passes for tape in tapes)
        columns, ordering = utterances.columns(), self._ordering
        begins = np.cumsum([0, *sizes])
        runs = [
            ordering.runs(columns.part(begin, begin + size), source, number)
            for source, (begin, size) in enumerate(zip(begins, sizes, strict=False))
        ]
        first = np.concatenate([first + begin for (first, _), begin in zip(runs, begins, strict=False)])
        lengths = np.concatenate([length for _, length in runs])
        ids = utterances.ids() if ordering.needs_ids else None
        steps = ordering.steps((first, lengths), columns, ids, epoch, number)
        quarantined = tuple(fault for tape in tapes for fault in tape.quarantined)
        for tape in tapes:
            tape.quarantined.clear()
        return StreamWindow(number, first_step, steps, utterances, quarantined)


def _through(tape: _Tape, clips: int) -> list[ValidatedUtterance]:
    """Return so many utterances, of as many passes as it takes."""
    taken: list[ValidatedUtterance] = []
    while len(taken) < clips:
        taken += tape.take(clips - len(taken))
    return taken


class StreamReader:
    """Reads a stream once for all who ask. A Ray actor where there are several."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._kept: deque[tuple[range, ray.ObjectRef]] = deque()
        self._coming: Iterator[StreamWindow] = iter(())

    def window(self, step: int) -> list[ray.ObjectRef]:
        """Return the window that holds a step, as a reference in a list: Ray would send the window itself."""
        if not self._kept or step < self._kept[0][0].start:  # workers that start again: so does the reading
            self._kept.clear()
            self._coming = iter(self._windows)
        while not (self._kept and step < self._kept[-1][0].stop):
            window = next(self._coming)
            if step < window.end_step:
                self._kept.append((range(window.first_step, window.end_step), ray.put(window)))
        while len(self._kept) > _KEPT:
            self._kept.popleft()
        return next([reference] for steps, reference in self._kept if step in steps)


class StreamingCorpus:
    """A corpus that is read while it is trained on. Each worker has a copy of it, all of them share one reader."""

    def __init__(self, windows: Windows, reader: ray.actor.ActorHandle | None = None) -> None:
        self._source, self._reader = windows, reader
        self._current: StreamWindow | None = None
        self.quarantined: list[Quarantined] = []

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the sources are."""
        return self._source.fingerprint

    @property
    def size(self) -> dict[str, float]:
        """Nothing: how much a stream holds is not known."""
        return {}

    def steps(self, first_step: int) -> Iterator[OptimizerStep]:
        """Yield steps for ever, from step number ``first_step`` of the whole run on."""
        for window in self._windows(first_step):
            self._current = window
            self.quarantined += window.quarantined
            yield from window.steps[max(0, first_step - window.first_step) :]

    def micro_batch_specs(self, batches: Sequence[MicroBatch]) -> list[MicroBatchSpec]:
        """Return micro-batches of the step that ``steps`` yielded last with their utterances."""
        assert self._current is not None
        return micro_batch_specs(self._current.utterances, batches)

    def shared(self) -> StreamingCorpus:
        """Return the same with its reader in a Ray actor; where the actor dies, Ray starts it again."""
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(StreamReader)
        return StreamingCorpus(self._source, actor.remote(self._source))

    def _windows(self, first_step: int) -> Iterator[StreamWindow]:
        if self._reader is None:
            yield from (window for window in self._source if window.end_step > first_step)
            return
        step = first_step
        while True:
            try:
                (reference,) = ray.get(self._reader.window.remote(step))
            except ray.exceptions.RayTaskError as error:
                if type(error.cause) is UserError:
                    raise error.cause from None
                raise
            window: StreamWindow = ray.get(reference)
            step = window.end_step
            yield window
