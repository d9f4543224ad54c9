"""Emissions that spell a text, with some doubt: for tests of the search's bonuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.models.ctc.spelling import Spelling

LETTERS = Spelling(("<pad>", "|", *"abcdefghijklmnopqrstuvwxyz"), word_delimiter=1, silent=frozenset({0}))
PIECES = Spelling(("<pad>", "▁", *"abcdefghijklmnopqrstuvwxyz", "▁ro", "▁roma", "ma", "gna"), silent=frozenset({0}))
CHINESE = Spelling(("<pad>", *"東京都庁大阪"), silent=frozenset({0}))


def ids(spelling: Spelling, symbols: Sequence[str]) -> list[int]:
    """Return the ids of symbols; a space is the delimiter."""
    return [spelling.symbols.index("|" if one == " " else one) for one in symbols]


def emissions(spelling: Spelling, *readings: tuple[Sequence[str], float]) -> np.ndarray:
    """Return log probabilities of readings of equal length, blank after each symbol; each weighs so much."""
    size = len(spelling.symbols)
    (length,) = {len(symbols) for symbols, _ in readings}
    probabilities_TV = np.full((2 * length, size), 1e-7)
    probabilities_TV[1::2, 0] = 1.0
    for symbols, weight in readings:
        probabilities_TV[np.arange(0, 2 * length, 2), ids(spelling, symbols)] += weight
    return np.log(probabilities_TV / probabilities_TV.sum(axis=1, keepdims=True)).astype(np.float32)


def written(spelling: Spelling, tokens: Sequence[int]) -> str:
    """Return the text of tokens."""
    return " ".join(spelling.words(tokens))
