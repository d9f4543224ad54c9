from __future__ import annotations

from asr.models.ctc.spelling import Spelling


def test_letters_with_a_delimiter() -> None:
    spelling = Spelling(("<pad>", "|", "a", "▁"), word_delimiter=1, silent=frozenset({0}))
    assert spelling.has_words
    assert spelling.words([2, 3, 1, 2]) == ["a▁", "a"]
    assert spelling.words([1, 2, 1, 1, 2, 1, 0]) == ["a", "a"]
    assert spelling.words([]) == []


def test_subwords() -> None:
    spelling = Spelling(("▁ci", "ao", "▁", "mondo", "|", "<pad>"), silent=frozenset({5}))
    assert spelling.words([0, 1, 2, 3, 4, 5]) == ["ciao", "mondo|"]
    assert spelling.boundaries_V.tolist() == [True, False, True, False, False, False]


def test_a_language_without_spaces_has_no_words() -> None:
    assert not Spelling(("<pad>", "東", "京"), silent=frozenset({0})).has_words
