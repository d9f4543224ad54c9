"""A corpus whose utterances are all known before the first step: each of them once an epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, count

import numpy as np
import pyarrow.compute as pc
import ray

from asr.utterance import Quarantined
from train.corpus.table import Utterances, micro_batch_specs
from train.examples import MicroBatchSpec
from train.sampling.batching import Epoch, MicroBatch, OptimizerStep
from train.sampling.mixing import Runs, draw
from train.sampling.packing import UtteranceColumns
from train.sampling.sampler import Ordering


class StaticCorpus:
    """Utterances of one or several sources, and how many of each source an epoch takes.

    Once ``shared`` it is small to pickle, and each node holds the utterances once, whatever its number of workers.
    """

    def __init__(
        self, held: Utterances | ray.ObjectRef, sizes: Sequence[int], drawn: Sequence[int], ordering: Ordering
    ) -> None:
        self._held = held
        self._sizes, self._drawn, self._ordering = sizes, drawn, ordering
        self.quarantined: list[Quarantined] = []
        self._fingerprint = ""

    @property
    def utterances(self) -> Utterances:
        """All utterances, source after source."""
        held = self._held
        return held if isinstance(held, Utterances) else ray.get(held)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the ids, texts and durations of utterances, whatever their order, as ``data prepare`` has it."""
        if not self._fingerprint:  # ten million rows take minutes, and a run asks twice
            self._fingerprint = self._digest()
        return self._fingerprint

    def _digest(self) -> str:
        table = self.utterances.table.select(["id", "text", "duration_s"])
        digest = hashlib.sha256()
        for batch in table.take(pc.sort_indices(table["id"])).to_batches(max_chunksize=16_384):
            for row in batch.to_pylist():
                digest.update(json.dumps([row["id"], row["text"], row["duration_s"]]).encode())
        return digest.hexdigest()

    @property
    def size(self) -> dict[str, float]:
        """Sizes of the corpus: ``clips`` and ``audio_s``, the seconds of speech."""
        return {"clips": len(self.utterances), "audio_s": round(float(self.utterances.columns().audio_s.sum()), 3)}

    def steps(self, first_step: int) -> Iterator[OptimizerStep]:
        """Yield steps for ever, epoch after epoch, from step number ``first_step`` of the whole run on."""
        for epoch in count():
            steps = self.epoch(epoch)
            for number in range(first_step, len(steps)):
                yield steps[number]
            first_step = max(0, first_step - len(steps))

    def epoch(self, number: int) -> Epoch:
        """Plan an epoch. ``docs/scale.md`` has what that takes."""
        utterances, ordering = self.utterances, self._ordering
        columns = utterances.columns()
        ids = utterances.ids() if ordering.needs_ids else None
        return ordering.steps(self._runs(columns, number), columns, ids, number)

    def micro_batch_specs(self, batches: Sequence[MicroBatch]) -> list[MicroBatchSpec]:
        """Return micro-batches with their utterances."""
        return micro_batch_specs(self.utterances, batches)

    def shared(self) -> StaticCorpus:
        """Return the same inside a Ray session, with the utterances in the object store and nothing quarantined."""
        corpus = self.stored()
        corpus.quarantined = []
        return corpus

    def stored(self) -> StaticCorpus:
        """Return the same inside a Ray session, with the utterances in the object store."""
        corpus = self.ordered(self._ordering)
        corpus._held = ray.put(self._held) if isinstance(self._held, Utterances) else self._held
        return corpus

    def ordered(self, ordering: Ordering) -> StaticCorpus:
        """Return the same utterances, wherever they are, to be met in another order."""
        corpus = StaticCorpus(self._held, self._sizes, self._drawn, ordering)
        corpus.quarantined, corpus._fingerprint = self.quarantined, self._fingerprint
        return corpus

    def _runs(self, columns: UtteranceColumns, epoch: int) -> Runs:
        """Return what an epoch takes of all sources."""
        firsts, counts = [], []
        begins = [0, *accumulate(self._sizes)]
        for source, (begin, size, drawn) in enumerate(zip(begins, self._sizes, self._drawn, strict=False)):
            first, number = draw(size, drawn, epoch, self._passes(source, columns.part(begin, begin + size)))
            firsts.append(first + begin)
            counts.append(number)
        return np.concatenate(firsts), np.concatenate(counts)

    def _passes(self, source: int, columns: UtteranceColumns) -> Callable[[int], Runs]:
        return lambda number: self._ordering.runs(columns, source, number)


def without_repeats(
    utterances: Utterances, sizes: Sequence[int], quarantined: list[Quarantined]
) -> tuple[Utterances, list[int]]:
    """Return the utterances without those whose id came before, which join ``quarantined``, and the sizes left."""
    ids = utterances.table["id"].combine_chunks().dictionary_encode()
    if len(ids.dictionary) == len(utterances):
        return utterances, list(sizes)
    _, kept = np.unique(ids.indices.to_numpy(), return_index=True)
    repeated = np.setdiff1d(np.arange(len(utterances)), kept)
    quarantined += [Quarantined(row.id, "duplicate_id") for row in utterances.take(repeated.tolist())]
    kept = np.sort(kept)
    bounds = np.searchsorted(kept, np.cumsum([0, *sizes]))
    return Utterances(utterances.table.take(kept)), np.diff(bounds).tolist()
