"""Bootstrap interval of an error rate: how far it would differ with other utterances of the same kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    errors = np.array([one.errors for one in counts])
    lengths = np.array([one.reference_length for one in counts])
    generator = np.random.default_rng(seed)
    rates = np.empty(resamples)
    step = max(1, _BLOCK // len(counts))
    for start in range(0, resamples, step):
        block = rates[start : start + step]
        drawn = generator.integers(len(counts), size=(len(block), len(counts)))
        block[:] = errors[drawn].sum(axis=1) / np.maximum(lengths[drawn].sum(axis=1), 1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return float(low), float(high)
