"""Finds odd characters of transcripts before a training run: strays, controls, and those that cost many tokens."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fontTools.unicodedata import script

Why = Literal["control", "other_script", "many_tokens", "rare"]

MANY_TOKENS = 3
RARE = 2  # occurrences
FOREIGN_SHARE = 0.01  # of all letters: below it a script is a stray one

ANY_SCRIPT = {"Zyyy", "Zinh"}
"""Of letters of no script of their own: modifiers such as Uzbek's apostrophe, Japanese long marks."""

# Scripts that are written along with another one, however few their letters are.
_ALONG = {"Hani": ("Hira", "Kana", "Hang", "Bopo"), "Hira": ("Kana",), "Kana": ("Hira",), "Bopo": ("Hani",)}


@dataclass(frozen=True)
class OddCharacter:
    """An odd character, the reason, its count and an example. ``tokens`` is what it costs standing alone."""

    character: str
    name: str
    count: int
    tokens: int
    why: tuple[Why, ...]
    examples: tuple[str, ...]
    """Ids of utterances that have it."""


class Characters:
    """Counts of all characters, gathered transcript by transcript."""

    def __init__(self, examples: int) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.num_examples = examples

    def add(self, id: str, text: str) -> None:
        """Count the characters of one transcript."""
        counts = Counter(text)
        self.counts.update(counts)
        for character in counts:
            if len(self.examples[character]) < self.num_examples:
                self.examples[character].append(id)

    def odd(self, num_tokens: Callable[[str], int]) -> tuple[OddCharacter, ...]:
        """Return the odd ones, most frequent first. ``num_tokens`` tells what a text costs.

        ``control``: control, format and private characters, and what stands for a lost one. ``other_script``: a letter
        of a script (Unicode's property) with under 1 % of the letters, such as a Cyrillic а among Latin ones.
        ``many_tokens``: 3 or more. ``rare``: once or twice in all, except letters and digits of ASCII.
        """
        letters: Counter[str] = Counter()
        for character, count in self.counts.items():
            if unicodedata.category(character)[0] == "L":
                letters[script(character)] += count
        strays = _strays(letters)
        found = []
        for character, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0])):
            tokens = num_tokens(character)
            why = tuple(_why(character, count, tokens, strays))
            if why:
                name = unicodedata.name(character, "unnamed")
                found.append(OddCharacter(character, name, count, tokens, why, tuple(self.examples[character])))
        return tuple(found)


def _strays(letters: Counter[str]) -> set[str]:
    """Return the scripts with few letters that are not written along with one of many."""
    least = FOREIGN_SHARE * letters.total()
    few = {name for name, count in letters.items() if count < least} - ANY_SCRIPT
    return {name for name in few if not any(letters[other] >= least for other in _ALONG.get(name, ()))}


def _why(character: str, count: int, tokens: int, strays: set[str]) -> list[Why]:
    category = unicodedata.category(character)
    why: list[Why] = []
    if category[0] == "C" or character == "\N{REPLACEMENT CHARACTER}":
        why.append("control")
    if category[0] == "L" and script(character) in strays:
        why.append("other_script")
    if tokens >= MANY_TOKENS:
        why.append("many_tokens")
    if count <= RARE and not (character.isascii() and character.isalnum()):
        why.append("rare")
    return why
