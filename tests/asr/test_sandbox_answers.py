from __future__ import annotations

import json
from typing import Any

import pytest

from asr.errors import DataError
from asr.header import Header, Length
from asr.sandbox_answers import MAX_DETAIL, MAX_WARNINGS, found, header_of, length_of, report_of
from asr.sound import SoundReport


def test_what_is_true_is_taken_as_it_is() -> None:
    report = {
        "samples": 9,
        "track": 0,
        "tracks": 1,
        "channel": "mix",
        "channels": 2,
        "damaged_s": 0.5,
        "warnings": ["a"],
    }
    assert report_of(report) == SoundReport(9, channels=2, damaged_s=0.5, warnings=("a",))
    assert header_of({"codec": "mp3", "sample_rate": 8000, "channels": 1}) == Header("mp3", 8000, 1)
    assert length_of({"seconds": 1.5, "certain": True}) == Length(1.5, True) and length_of(None) is None
    assert found({"found": None}) is None


def test_a_fault_is_a_word_and_text_that_does_nothing_to_a_terminal() -> None:
    with pytest.raises(DataError) as raised:
        found({"reason": "corrupt", "detail": "a\x1b]0;b\x07\nc\x9b31m" + "x" * 5000})
    assert raised.value.reason == "corrupt" and len(raised.value.detail) == MAX_DETAIL
    assert raised.value.detail.startswith("a ]0;b  c 31mx")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"reason": "corrupt"},
        {"reason": "=HYPERLINK()", "detail": ""},
        {"reason": 7, "detail": ""},
        {"reason": "x" * 100, "detail": ""},
        {"reason": "corrupt", "detail": ["a"]},
    ],
)
def test_what_is_no_answer_is_no_fault_of_a_made_up_kind(answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        found(answer)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {"codec": "mp3", "sample_rate": 8000, "channels": 10**9},  # a row for each of them
        {"codec": "mp3", "sample_rate": 8000, "channels": 0},
        {"codec": "mp3", "sample_rate": -1, "channels": 1},
        {"codec": 1, "sample_rate": 8000, "channels": 1},
    ],
)
def test_a_header_that_no_file_has_is_not_believed(said: object) -> None:
    with pytest.raises(ValueError):
        header_of(said)


@pytest.mark.parametrize("text", ['{"seconds": NaN, "certain": true}', '{"seconds": Infinity, "certain": true}', "7"])
def test_a_length_is_a_number(text: str) -> None:
    with pytest.raises(ValueError):
        length_of(json.loads(text))


def test_a_report_says_no_more_than_a_report_can() -> None:
    assert len(report_of({"samples": 1, "warnings": ["a"] * 5000}).warnings) == MAX_WARNINGS
    for wrong in ({"channels": 10**9}, {"damaged_s": float("nan")}, {"samples": "many"}):
        with pytest.raises(ValueError):
            report_of({"samples": 1, **wrong})
