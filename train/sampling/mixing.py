"""Mixing of several sources in an epoch: the number of utterances from each source, and their choice.

Each source is an endless sequence of passes over it, every pass in an order of its own. An epoch takes the next so many
utterances of it. With natural shares these are one pass: each utterance once an epoch. With other shares a source is
used more or less often than once an epoch, but no utterance is used twice before all of the source were used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Stretches of consecutive utterances that stay together: the first index of each, and how many they are."""


def shares(sizes: Sequence[int], weights: Sequence[float | None], temperature: float) -> list[int]:
    """Return how many utterances of each source are drawn for an epoch; they add up to the utterances of all sources.

    A source without a weight gets ``size ** (1 / temperature)``: 1 is natural, larger ones help small sources (Conneau
    et al. 2020, 3.1, with alpha = 1 / temperature). ValueError where only some have a weight.
    """
    given = [weight for weight in weights if weight is not None]
    if given and len(given) < len(weights):
        raise ValueError("either every source has a weight, or none")
    parts = np.array(given or [float(size) ** (1.0 / temperature) for size in sizes])
    exact = parts / parts.sum() * sum(sizes)
    drawn = np.floor(exact + 1e-9).astype(int)
    missing = sum(sizes) - int(drawn.sum())
    drawn[np.argsort(drawn - exact, kind="stable")[:missing]] += 1  # largest remainders first
    return [int(count) for count in drawn]


def draw(size: int, count: int, epoch: int, runs: Callable[[int], Runs]) -> Runs:
    """Return the runs of an epoch: utterances ``epoch * count`` to ``(epoch + 1) * count`` of one source's passes.

    ``runs(number)`` returns all of a pass in its order. A run across an epoch's border is cut in two.
    """
    firsts, counts = [], []
    begin, end = epoch * count, (epoch + 1) * count
    for number in range(begin // size, -(-end // size)):
        first, length = runs(number)
        stops = np.cumsum(length) + number * size
        starts = np.maximum(stops - length, begin)
        taken = np.minimum(stops, end) - starts
        kept = taken > 0
        firsts.append((first + starts - (stops - length))[kept])
        counts.append(taken[kept])
    if not firsts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(firsts), np.concatenate(counts)


def shuffled(runs: Runs, random: np.random.Generator) -> Runs:
    """Return the same runs in another order."""
    order = random.permutation(len(runs[0]))
    return runs[0][order], runs[1][order]
