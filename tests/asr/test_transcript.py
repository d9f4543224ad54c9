from __future__ import annotations

import pickle
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from asr.errors import DataError
from asr.transcript import (
    MAX_KEYWORD_CHARACTERS,
    MAX_KEYWORDS,
    DecodingRequest,
    Segment,
    Transcript,
    Word,
    plain_keywords,
)

WORD = Word(0.0, 0.4, " Ciao", 0.9)
TRANSCRIPT = Transcript("Ciao", (1, 2), "it", (Segment(0.0, 0.4, "Ciao", (1, 2)),), (WORD,), -0.2, 0.01)


def test_transcripts_that_say_the_same_are_equal() -> None:
    other = replace(TRANSCRIPT, avg_logprob=-0.2000001, no_speech_prob=0.0100001)
    assert replace(other, words=(replace(WORD, probability=0.9000001),)) == TRANSCRIPT
    assert replace(TRANSCRIPT, words=(replace(WORD, end_s=0.42),)) != TRANSCRIPT
    assert replace(TRANSCRIPT, temperature=0.2) != TRANSCRIPT


def test_both_cross_to_other_processes_and_do_not_change() -> None:
    clip = DecodingRequest(np.zeros((80, 100), dtype=np.float16), "it", prompt="Whisperfleet")
    assert pickle.loads(pickle.dumps(TRANSCRIPT)) == TRANSCRIPT
    assert pickle.loads(pickle.dumps(clip)).prompt == clip.prompt
    with pytest.raises(FrozenInstanceError):
        clip.prompt = "other"  # type: ignore[misc]


def test_keywords_are_plain_words_each_once() -> None:
    assert plain_keywords([" Digium", "", "Digium", "Voice  over IP", "C++", "\n"]) == (
        "Digium",
        "Voice over IP",
        "C++",
    )
    assert plain_keywords(["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"])  # Persian, with a joiner in it
    assert len(plain_keywords(f"word {i}" for i in range(MAX_KEYWORDS))) == MAX_KEYWORDS


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([f"word {i}" for i in range(MAX_KEYWORDS + 1)], "101, and 100 are the limit"),
        (["a" * (MAX_KEYWORD_CHARACTERS + 1)], "51 characters, and 50 are the limit"),
        (["the <|endoftext|>"], "holds <.endoftext.>"),
        (["a\x1b[2J"], "is no word"),
        (["\ud800x"], "is no word"),
        ([", ."], "', .' is no word"),
    ],
)
def test_what_is_no_plain_word_or_too_much_is_no_keyword(words: list[str], told: str) -> None:
    with pytest.raises(DataError) as raised:
        plain_keywords(words)
    assert re.search(told, raised.value.detail)
