"""Corpora that need no audio: the order of training knows lengths and texts only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from asr.utterance import Utterance
from train.augmentation.augment import Augmentation
from train.corpus.corpus import Corpus
from train.corpus.static import StaticCorpus
from train.corpus.table import ValidatedUtterance, collect
from train.dataloader.dataset import RankSlice, WorkerShard
from train.sampling.batching import BatchingConfig
from train.sampling.packing import ExampleLimits, Packing
from train.sampling.sampler import Ordering

LIMITS = ExampleLimits(around=5, most=448, previous=223, window_s=30.0)


def ordering(
    batching: BatchingConfig | None = None,
    packing: Packing | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
) -> Ordering:
    return Ordering(batching or BatchingConfig(), packing or Packing(), augment or Augmentation(), seed, LIMITS)


def spoken(count: int, prefix: str = "u") -> list[ValidatedUtterance]:
    """Utterances of 0.5 to 9 s with two words each."""
    random = np.random.default_rng(count)
    return [
        ValidatedUtterance(
            Utterance(f"{prefix}{n}", f"{prefix}{n}.wav", f"text {n}", float(random.uniform(0.5, 9.0))), 4 + n % 9
        )
        for n in range(count)
    ]


def listed(how: Ordering, *sources: Sequence[ValidatedUtterance], drawn: Sequence[int] | None = None) -> StaticCorpus:
    utterances, sizes = collect(sources)
    return StaticCorpus(utterances, sizes, drawn or sizes, how)


def met(corpus: Corpus, steps: range, workers: int) -> list[tuple[int, str]]:
    """Epoch and id of all utterances that so many workers meet in these steps, step after step."""
    shards = [WorkerShard(corpus, steps, RankSlice(rank, workers)).specs() for rank in range(workers)]
    rounds = list(zip(*shards, strict=True))  # strict: every worker has equally many micro-batches
    return [
        (spec.epoch, utterance.id)
        for specs in rounds
        for spec in specs
        for example in spec.examples
        for utterance in example.utterances
    ]


def once_an_epoch(seen: Sequence[tuple[int, str]], ids: set[str], epochs: int) -> bool:
    """Whether each id occurs exactly once in each of the first epochs."""
    counts = Counter(seen)
    return all(counts[epoch, one] == 1 for epoch in range(epochs) for one in ids)
