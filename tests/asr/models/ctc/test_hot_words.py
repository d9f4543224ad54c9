from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from asr.models.ctc.beam_search import BeamOptions, State, beam_search
from asr.models.ctc.hot_words import HotWords
from asr.models.ctc.spelling import Spelling
from tests.asr.models.ctc.spelled import CHINESE, LETTERS, PIECES, emissions, ids, written


def bonus(spelling: Spelling, phrases: Sequence[str], symbols: Sequence[str]) -> float:
    """What a whole text gets, a character of a phrase being worth 1."""
    state: State = HotWords(phrases, spelling, boost=1.0).start()
    total = 0.0
    for one in ids(spelling, symbols):
        total += float(state.row_V[one])
        state = state.after(one)
    return total + state.end


@pytest.mark.parametrize(
    ("phrases", "text", "earned"),
    [
        (["roma"], "roma", 4),
        (["roma"], "a roma ora", 4),
        (["roma"], "roma roma", 8),
        (["roma"], "romagna", 0),
        (["roma"], "aroma", 0),
        (["roma"], "rom", 0),
        (["roma"], "", 0),
        (["san marino"], "san marino", 9),
        (["san marino"], "san remo", 0),
        (["san marino"], "san san marino", 9),
        (["san marino"], "san", 0),
        (["san", "san marino"], "san marino", 9),
        (["san", "san marino"], "san remo", 3),
        (["san marino", "marino b"], "san marino b", 16),
        (["a b c", "b d"], "a b d", 2),
        (["  san   marino ", ""], "san marino", 9),
    ],
)
def test_whole_phrases_earn_their_letters_and_nothing_else_does(phrases: list[str], text: str, earned: int) -> None:
    assert bonus(LETTERS, phrases, text) == pytest.approx(earned)


def test_delimiters_too_many_change_nothing() -> None:
    assert bonus(LETTERS, ["roma"], " roma ") == bonus(LETTERS, ["roma"], "roma  a") == pytest.approx(4)


@pytest.mark.parametrize(
    ("pieces", "earned"),
    [(["▁roma"], 4), (["▁ro", "ma"], 4), (["▁", *"roma"], 4), (["▁roma", "gna"], 0), (["▁ro", "ma", "▁", "a"], 4)],
)
def test_pieces_of_any_size_spell_a_word(pieces: list[str], earned: int) -> None:
    assert bonus(PIECES, ["roma"], pieces) == pytest.approx(earned)


@pytest.mark.parametrize(
    ("phrases", "text", "earned"),
    [
        (["東京"], "大東京都", 2),
        (["東京都"], "東京", 0),
        (["東京", "東京都庁"], "東京都庁", 4),
        (["東京", "東京都庁"], "東京都大", 2),
        (["京都"], "東京都", 2),
    ],
)
def test_without_spaces_a_phrase_is_anywhere(phrases: list[str], text: str, earned: int) -> None:
    assert bonus(CHINESE, phrases, text) == pytest.approx(earned)


@settings(max_examples=40)
@given(
    st.lists(st.text("ab ", min_size=1, max_size=5), max_size=3, unique_by=lambda one: tuple(one.split())),
    st.text("ab ", max_size=10),
)
def test_what_is_not_earned_is_taken_back(phrases: list[str], text: str) -> None:
    """By definition: phrases between boundaries, but for what a shorter one in front of them has earned."""
    whole = {" ".join(phrase.split()) for phrase in phrases} - {""}
    expected = 0
    padded = f" {text} "
    for phrase in whole:
        shorter = max((one for one in whole if phrase.startswith(one + " ")), key=len, default="")
        worth = len(phrase.replace(" ", "")) - len(shorter.replace(" ", ""))
        expected += worth * sum(padded.startswith(f" {phrase} ", place) for place in range(len(padded)))
    assert bonus(LETTERS, phrases, text) == pytest.approx(expected)


def test_a_name_is_heard_where_the_sound_allows_it() -> None:
    """The emissions say "chora" a little louder than "giota"; the beam would lose the name at its first letters."""
    logprobs_TV = emissions(LETTERS, ("chora", 0.6), ("giota", 0.4))
    options = BeamOptions(width=2)
    assert written(LETTERS, beam_search(logprobs_TV, 0, None, options)[0].tokens) == "chora"
    start = HotWords(["giota"], LETTERS).start()
    assert written(LETTERS, beam_search(logprobs_TV, 0, start, options)[0].tokens) == "giota"


def test_a_name_does_not_come_from_nothing() -> None:
    logprobs_TV = emissions(LETTERS, ("una casa", 1.0))
    start = HotWords(["casale", "roma", "una cosa"], LETTERS).start()
    assert written(LETTERS, beam_search(logprobs_TV, 0, start)[0].tokens) == "una casa"


def test_a_phrase_that_cannot_be_spelled_is_named() -> None:
    with pytest.raises(UserError, match="hot word 'café': the vocabulary has no 'é'"):
        HotWords(["ora", "café"], LETTERS)
    with pytest.raises(UserError, match="hot word '東 京': the vocabulary has no ' '"):
        HotWords(["東 京"], CHINESE)
