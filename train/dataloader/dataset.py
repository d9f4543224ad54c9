"""The trainer's data set: this worker's part of the micro-batches, from the run's current step on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch.utils.data import IterableDataset

from asr.models.processor import IGNORED
from asr.utterance import Quarantined
from train.corpus.corpus import Corpus
from train.corpus.validation import require_usable
from train.dataloader.collate import collate
from train.dataloader.preprocess import MicroBatchTensors
from train.dataloader.ray_pipeline import stream
from train.examples import MicroBatchSpec, PreprocessConfig
from train.sampling.batching import MicroBatch


@dataclass
class DataStats:
    """Statistics of the data that a worker has consumed so far.

    ``encoded_s`` are the seconds that the encoder was given, ``own_s`` those of them that are within each clip's own
    planned context: the rest is padding. ``tokens`` are those that the loss scores. ``wait_s`` is the time that the
    worker waited for data, after the first row: Ray Data takes seconds to start.
    """

    utterances: int = 0
    audio_s: float = 0.0
    tokens: int = 0
    own_s: float = 0.0
    encoded_s: float = 0.0
    wait_s: float = 0.0
    quarantined: list[Quarantined] = field(default_factory=list)

    @property
    def padding_share(self) -> float:
        """Share of what the encoder was given that is padding."""
        return 1.0 - self.own_s / self.encoded_s if self.encoded_s else 0.0


@dataclass(frozen=True)
class ConsumedBatch:
    """A micro-batch that the trainer was given, in the data log: its utterances, usable or not."""

    epoch: int
    ids: tuple[str, ...]
    faulty: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RankSlice:
    """The micro-batches of each step for one worker: every ``world_size``-th from ``rank`` on."""

    rank: int
    world_size: int

    def of(self, step: Sequence[MicroBatch]) -> tuple[MicroBatch, ...]:
        """Return this worker's micro-batches of a step; all workers get equally many, some of them idle if need be."""
        mine = tuple(step[self.rank :: self.world_size])
        most = -(-len(step) // self.world_size)
        return mine + (MicroBatch(step[0].epoch),) * (most - len(mine))


@dataclass(frozen=True)
class WorkerShard:
    """Training data of one worker: its part of the optimiser steps in ``steps``."""

    corpus: Corpus
    steps: range
    rank_slice: RankSlice

    def specs(self) -> Iterator[MicroBatchSpec]:
        """Yield this worker's micro-batches in order, with their utterances."""
        for step in islice(self.corpus.steps(self.steps.start), len(self.steps)):
            yield from self.corpus.micro_batch_specs(self.rank_slice.of(step))

    @property
    def quarantined(self) -> Sequence[Quarantined]:
        """The unusable rows of the corpus as far as it was read; only the first worker reports them."""
        return self.corpus.quarantined if self.rank_slice.rank == 0 else ()


class MicroBatchDataset(IterableDataset):
    """Yields the collated micro-batches of one worker, and keeps its statistics and the data log."""

    def __init__(
        self,
        shard: WorkerShard,
        preprocess: PreprocessConfig,
        max_quarantined_share: float,
        tasks: int = 1,
    ) -> None:
        self.stats = DataStats()
        self.waiting = False
        """True while the worker waits for data."""
        self._shard, self._preprocess = shard, preprocess
        self._max_quarantined_share, self._tasks = max_quarantined_share, tasks
        self._data_log: list[ConsumedBatch] = []
        self._told = 0
        self._untrained: deque[ConsumedBatch] = deque()

    def take_consumed(self) -> list[ConsumedBatch]:
        """Return the micro-batches yielded since the last call."""
        taken, self._data_log = self._data_log, []
        return taken

    def trained(self) -> ConsumedBatch:
        """Return the next micro-batch in the order in which they were yielded, which the calling trainer takes now.

        The trainer may have fetched several ahead.
        """
        return self._untrained.popleft()

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        processor = self._preprocess.processor
        rows = stream(self._shard.specs(), self._preprocess, self._tasks)
        first = True
        while True:
            started = time.monotonic()
            self.waiting = True
            row = next(rows, None)
            self.waiting = False
            if row is None:
                return
            if not first:
                self.stats.wait_s += time.monotonic() - started
            first = False
            batch = collate(row, processor)
            self._count(row, batch, processor.encoded_s(batch))
            require_usable(self.stats.quarantined, self.stats.utterances, self._max_quarantined_share)
            yield batch

    def _count(self, row: MicroBatchTensors, batch: dict[str, torch.Tensor], encoded_s: float) -> None:
        stats = self.stats
        stats.utterances += len(row.ids)
        stats.audio_s += row.audio_s
        stats.tokens += int((batch["labels"] != IGNORED).sum())
        stats.encoded_s += encoded_s
        stats.own_s += min(row.own_s, encoded_s)
        stats.quarantined += row.faults
        found = self._shard.quarantined[self._told :]
        self._told += len(found)
        stats.utterances += len(found)  # met by the corpus, if not by the trainer
        stats.quarantined += found
        consumed = ConsumedBatch(row.epoch, row.ids, frozenset(fault.id for fault in row.faults))
        self._data_log.append(consumed)
        self._untrained.append(consumed)
