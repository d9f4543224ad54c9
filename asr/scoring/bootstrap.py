"""Bootstrap interval of an error rate: how far it would differ with other utterances of the same kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asr.scoring.edits import EditCounts

# Resamples are drawn in blocks of so many utterance indices (32 MB), so that memory does not grow with the test set.
_BLOCK = 4_000_000


def bootstrap_interval(
    counts: Sequence[EditCounts], seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the bounds of a percentile interval of the pooled rate, from ``resamples`` draws of whole utterances.

    Utterances are what is independent, not words (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR
    performance evaluation", ICASSP 2004). The same counts in the same order give the same bounds.
    There has to be an utterance.
    """
    return _bounds(_resampled(counts, seed, resamples), confidence)


def paired_interval(
    ones: Sequence[EditCounts],
    others: Sequence[EditCounts],
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the bounds of the difference of two models' pooled rates on the same utterances: first minus second.

    Both rates are of the same draws, so that what makes an utterance hard for both is in neither bound: the interval is
    far narrower than those of the two rates say. There has to be an utterance, and as many of the one as of the other.
    """
    if len(ones) != len(others):
        raise ValueError(f"{len(ones)} utterances, but {len(others)} of the other model")
    first, second = _resampled(ones, seed, resamples), _resampled(others, seed, resamples)
    return _bounds(first - second, confidence)


def _resampled(counts: Sequence[EditCounts], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return the pooled rate of each draw; the draws are the same for as many utterances."""
    errors = np.array([one.errors for one in counts])
    lengths = np.array([one.reference_length for one in counts])
    generator = np.random.default_rng(seed)
    rates = np.empty(resamples)
    step = max(1, _BLOCK // len(counts))
    for start in range(0, resamples, step):
        block = rates[start : start + step]
        drawn = generator.integers(len(counts), size=(len(block), len(counts)))
        block[:] = errors[drawn].sum(axis=1) / np.maximum(lengths[drawn].sum(axis=1), 1)
    return rates


def _bounds(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
