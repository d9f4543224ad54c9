from __future__ import annotations

import pytest

from asr.inference.language_id import LANGUAGE_VOTE_WINDOWS, LanguageVote, vote
from asr.inference.recording import Window
from asr.transcript import Segment, Transcript


def heard(*windows: tuple[int, str, str]) -> tuple[list[Window], list[Transcript]]:
    """Windows end to end, each of so many seconds, in which so much is heard in that language."""
    passages = []
    start = 0
    for seconds, language, text in windows:
        window = Window(start, start + seconds * 16_000)
        segments = (Segment(0.0, float(seconds), text, (1,)),) if text else ()
        passages.append((window, Transcript(text, (1,) * len(text), language, segments)))
        start = window.end
    return [window for window, _ in passages], [transcript for _, transcript in passages]


def test_the_language_of_most_of_the_speech_is_that_of_the_recording() -> None:
    voting = LanguageVote(None)
    assert voting.at_once(8) == LANGUAGE_VOTE_WINDOWS
    assert voting.count(*heard((10, "it", "sì"), (30, "en", "a long sentence"), (25, "it", "no"))) == [1]
    assert (voting.settled, voting.language, voting.at_once(8)) == (True, "it", 8)
    assert voting.count(*heard((1, "it", "sì"), (1, "en", "yes"))) == [1]


def test_it_remains_open_while_nothing_is_heard() -> None:
    voting = LanguageVote(None)
    assert voting.count(*heard((30, "zh", ""))) == []
    assert not voting.settled and voting.language is None


@pytest.mark.parametrize("per_window", [False, True])
def test_a_language_that_was_asked_for_or_one_of_each_window_needs_no_vote(per_window: bool) -> None:
    voting = LanguageVote(None if per_window else "it", per_window)
    assert voting.settled
    assert voting.count(*heard((10, "it", "sì"), (30, "en", "yes"))) == ([] if per_window else [1])


def test_of_windows_that_are_all_decoded_already_the_first_decide_too() -> None:
    windows = heard((5, "en", "a"), (9, "it", "b"), (9, "it", "c"), (30, "en", "d"), (30, "it", "e"))
    assert vote(None, False, *windows) == ("it", {0, 3})
    assert vote(None, False, *heard((5, "en", ""), (5, "en", ""), (5, "it", ""), (5, "de", "x"), (1, "en", "y"))) == (
        "de",
        {4},
    )
    assert vote(None, True, *windows) == (None, frozenset())
