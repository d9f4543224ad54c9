"""Words from symbols: which symbols end a word, and what each adds to the spelling of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from asr.models.ctc.text_rules import WORD_START


@dataclass(frozen=True)
class Spelling:
    """Text that each of V symbols writes; "" for those that write nothing (the blank, unknown, begin, end)."""

    symbols: tuple[str, ...]
    word_delimiter: int | None = None
    """Symbol that stands between two words; None where tokens that begin with ▁ begin words, or nothing does."""
    silent: frozenset[int] = frozenset()
    """Symbols that write nothing."""

    @cached_property
    def has_words(self) -> bool:
        """Return whether the symbols tell words apart; they do not in a language without spaces."""
        return bool(self.boundaries_V.any())

    @cached_property
    def boundaries_V(self) -> NDArray[np.bool_]:
        """Return of each symbol whether it ends the word before it."""
        return np.array([text.startswith(" ") for text in self.texts], dtype=np.bool_)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Characters of each symbol, with a space in front where it ends the word before it."""
        return tuple(self._text(number) for number in range(len(self.symbols)))

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Return the words that tokens spell."""
        return [word for word in "".join(self.texts[token] for token in tokens).split(" ") if word]

    def _text(self, number: int) -> str:
        if number in self.silent:
            return ""
        if number == self.word_delimiter:
            return " "
        symbol = self.symbols[number]
        if self.word_delimiter is None and symbol.startswith(WORD_START):
            return " " + symbol[1:]
        return symbol
