"""Pauses as the ends of words: networks trained on short clips say no delimiter in a silence that lasts.

Legend: T positions, V symbols.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PAUSE_S = 0.5
"""Silence between two letters that no word goes on across: long vowels and doubled consonants last half as long."""

_CERTAIN = -1e-3  # natural logarithm; beside it nothing else is likely


def with_delimiters(
    logprobs_TV: NDArray[np.float32], blank: int, delimiter: int, position_s: float
) -> NDArray[np.float32]:
    """Return emissions with the delimiter said in each long pause between letters that has none beside it.

    The emissions given are not changed.
    """
    likeliest_T = logprobs_TV.argmax(1)
    said = np.flatnonzero(likeliest_T != blank)
    gaps = np.flatnonzero(np.diff(said) * position_s > PAUSE_S)
    letters = likeliest_T[said] != delimiter
    gaps = gaps[letters[gaps] & letters[gaps + 1]]
    if not len(gaps):
        return logprobs_TV
    middles = (said[gaps] + said[gaps + 1]) // 2
    parted_TV = logprobs_TV.copy()
    symbols = logprobs_TV.shape[1]
    parted_TV[middles] = np.log(-np.expm1(_CERTAIN) / max(symbols - 1, 1))
    parted_TV[middles, delimiter] = _CERTAIN
    return parted_TV
