"""Places where what is heard stands in the text."""

from __future__ import annotations

import numpy as np

from asr.models.ctc.anchors import anchors


def symbols(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 30, count).tolist()


def test_what_is_heard_as_it_is_written_is_anchored_all_along() -> None:
    text = symbols(500, seed=1)
    found = anchors(text, text)
    assert all(place == index for place, index in found)
    assert len(found) > 450


def test_what_is_not_in_the_text_and_not_spoken_has_no_anchor() -> None:
    first, second, other, unspoken = (symbols(200, seed) for seed in range(4))
    found = anchors(first + other + second, first + unspoken + second)
    assert found == sorted(found)
    assert all(place == index and (index < 200 or index >= 400) for place, index in found)


def test_what_stands_twice_is_no_anchor() -> None:
    refrain = symbols(100, seed=1)
    assert anchors(refrain, refrain + refrain) == []
    assert anchors(refrain + refrain, refrain) == []


def test_of_what_contradicts_itself_most_is_kept() -> None:
    first, second, moved = (symbols(count, seed) for seed, count in enumerate((200, 200, 40)))
    found = anchors(moved + first + second, first + second + moved)
    assert found
    assert all(place == index + 40 for place, index in found)


def test_a_text_of_few_symbols_needs_longer_stretches() -> None:
    """Two random sequences of two symbols have stretches in common, by chance."""
    zeros_and_ones = [np.random.default_rng(seed).integers(0, 2, 300).tolist() for seed in range(2)]
    assert anchors(*zeros_and_ones) == []
    assert anchors([1] * 300, [1] * 300) == []


def test_with_nothing_there_are_none() -> None:
    assert anchors([], symbols(50, 1)) == anchors(symbols(50, 1), []) == anchors([], []) == anchors([1], [1]) == []
