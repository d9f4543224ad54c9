"""Anchors of a long text in a long recording: places where what the network hears stands in the text, and only there.

They bound the search for the best path (Moreno et al. 1998), which else would take hours times hours. What they leave
open is as long as the longest stretch that is misheard, or has no text, or is not spoken.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

_CHANCES = 1000
"""How much rarer a chance match shall be than one in the whole recording."""

_SHORTEST = 4


def anchors(heard: Sequence[int], text: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of an index into the symbols heard and one into the text's, both rising: the most that agree.

    A pair is the middle of a stretch of equal symbols, long enough that chance alone would not make it, which stands
    once in each.
    """
    length = _length(heard, text)
    places, in_text = _once(heard, length), _once(text, length)
    found = sorted((place, in_text[stretch]) for stretch, place in places.items() if stretch in in_text)
    middle = length // 2
    return [(place + middle, index + middle) for place, index in _rising(found)]


def _length(heard: Sequence[int], text: Sequence[int]) -> int:
    """Return how many symbols have as many nats as there are pairs of places, times ``_CHANCES``."""
    counts = Counter(text)
    nats = sum(-count / len(text) * math.log(count / len(text)) for count in counts.values())
    pairs = max(len(heard), 1) * max(len(text), 1)
    return max(math.ceil(math.log(pairs * _CHANCES) / max(nats, 0.1)), _SHORTEST)


def _once(symbols: Sequence[int], length: int) -> dict[tuple[int, ...], int]:
    """Return where each stretch of ``length`` symbols begins that occurs once."""
    places: dict[tuple[int, ...], int] = {}
    for first in range(len(symbols) - length + 1):
        stretch = tuple(symbols[first : first + length])
        places[stretch] = -1 if stretch in places else first
    return {stretch: place for stretch, place in places.items() if place >= 0}


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest subsequence whose second numbers rise; the first ones do already."""
    lowest: list[int] = []  # the second number that the best subsequence of each length ends in
    ends: list[int] = []  # which pair that is
    before: list[int] = []
    for number, (_, second) in enumerate(pairs):
        length = bisect_left(lowest, second)
        before.append(ends[length - 1] if length else -1)
        lowest[length : length + 1], ends[length : length + 1] = [second], [number]
    chosen: list[tuple[int, int]] = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chosen.append(pairs[number])
        number = before[number]
    return chosen[::-1]
