"""Words and phrases that a search shall prefer where the sound allows them, such as names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from asr.errors import UserError
from asr.models.ctc.spelling import Spelling
from asr.printable import printable

BOOST = 1.0


class HotWords:
    """Phrases, written as the vocabulary writes texts, and the bonus of each of their characters.

    The bonus is given while a phrase is being spelled and taken back where the text goes on otherwise, so that a
    beam does not lose the phrase before it is whole. Phrases begin and end where words do; in a language without
    spaces, anywhere. Raises UserError naming a phrase that cannot be spelled.
    """

    def __init__(self, phrases: Iterable[str], spelling: Spelling, boost: float = BOOST) -> None:
        self.spelling, self.boost = spelling, boost
        self.whole = frozenset(filter(None, (" ".join(phrase.split()) for phrase in phrases)))
        self.begun = frozenset(phrase[:end] for phrase in self.whole for end in range(len(phrase) + 1)) | {""}
        self._paid = {one: self._value(self._longest_whole(one)) for one in self.begun}
        letters = frozenset(character for text in spelling.texts for character in text)
        for phrase in sorted(self.whole):
            if odd := sorted(set(phrase) - letters):
                raise UserError(f"hot word '{printable(phrase, 40)}': the vocabulary has no '{printable(odd[0])}'")
        self._states: dict[tuple[str, ...], _HotState] = {}

    def start(self) -> _HotState:
        """Return the state of an empty text."""
        return self.state(("",))

    def state(self, begun: tuple[str, ...]) -> _HotState:
        """Return the state in which these beginnings of phrases have just been spelled."""
        return self._states.setdefault(begun, _HotState(self, begun))

    def held(self, begun: tuple[str, ...]) -> float:
        """Return the bonus given for phrases that are not whole yet: that of the longest beginning."""
        return max((self._value(one) - self._paid[one] for one in begun), default=0.0)

    def ended(self, begun: tuple[str, ...]) -> float:
        """Return what is earned by the phrases that are whole, but for what shorter ones in front of them earned."""
        return sum(self._value(one) - self._paid[one[:-1]] for one in begun if one in self.whole)

    def spell(self, begun: tuple[str, ...], text: str) -> tuple[float, tuple[str, ...]]:
        """Return what is earned for good by a symbol's characters, and the beginnings of phrases after them."""
        earned, spaced = 0.0, self.spelling.has_words
        for character in text:
            if character == " " and spaced:
                earned += self.ended(begun)
            begun = tuple(one + character for one in begun if one + character in self.begun)
            if not spaced:
                earned += self.ended(begun)
            if (character == " " or not spaced) and "" not in begun:
                begun = (*begun, "")
        return earned, begun

    def _value(self, text: str) -> float:
        return self.boost * (len(text) - text.count(" "))

    def _longest_whole(self, begun: str) -> str:
        """Return the longest phrase that has ended somewhere in a beginning of another one."""
        end = " " if self.spelling.has_words else ""
        return max((one for one in self.whole if begun.startswith(one + end)), key=len, default="")


@dataclass(frozen=True)
class _HotState:
    """Beginnings of phrases that the last characters of a text spell."""

    words: HotWords
    begun: tuple[str, ...]
    _next: dict[int, _HotState] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def row_V(self) -> NDArray[np.float64]:
        held, bonuses = self.words.held(self.begun), []
        for text in self.words.spelling.texts:
            earned, begun = self.words.spell(self.begun, text)
            bonuses.append(earned + self.words.held(begun) - held)
        return np.array(bonuses)

    @property
    def end(self) -> float:
        earned = self.words.ended(self.begun) if self.words.spelling.has_words else 0.0
        return earned - self.words.held(self.begun)

    def after(self, symbol: int) -> _HotState:
        if symbol not in self._next:
            _, begun = self.words.spell(self.begun, self.words.spelling.texts[symbol])
            self._next[symbol] = self.words.state(begun)
        return self._next[symbol]
