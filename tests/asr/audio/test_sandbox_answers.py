from __future__ import annotations

import json
from typing import Any

import pytest

from asr.audio.probe import Header, Length
from asr.audio.sandbox_answers import (
    MAX_BUG,
    MAX_DETAIL,
    MAX_WARNING,
    MAX_WARNINGS,
    answers_of,
    found,
    header_of,
    length_of,
    report_of,
)
from asr.errors import DataError
from asr.sound import SoundReport


def test_what_is_true_is_taken_as_it_is() -> None:
    report = {
        "samples": 9000,
        "track": 0,
        "tracks": 1,
        "channel": "mix",
        "channels": 2,
        "damaged_s": 0.5,
        "warnings": ["a"],
    }
    assert report_of(report) == SoundReport(9000, channels=2, damaged_s=0.5, warnings=("a",))
    assert header_of({"codec": "mp3", "sample_rate": 8000, "channels": 1}) == Header("mp3", 8000, 1)
    assert length_of({"seconds": 1.5, "certain": True}) == Length(1.5, True) and length_of(None) is None
    assert found({"found": None}, "a") is None


def test_a_fault_is_a_word_and_text_that_does_nothing_to_a_terminal() -> None:
    with pytest.raises(DataError) as raised:
        found({"reason": "corrupt", "detail": "a\x1b]0;b\x07\nc\x9b31m" + "x" * 5000}, "a")
    assert raised.value.reason == "corrupt" and len(raised.value.detail) == MAX_DETAIL
    assert raised.value.detail.startswith("a?]0;b??c?31mx")


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
        found(answer, "a")


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {"codec": "mp3", "sample_rate": 8000, "channels": 10**9},  # a row for each of them
        {"codec": "mp3", "sample_rate": 8000, "channels": 0},
        {"codec": "mp3", "sample_rate": -1, "channels": 1},
        {"codec": "mp3", "sample_rate": 10**30, "channels": 1},
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
    [warning] = report_of({"samples": 1, "warnings": ["a\u202e\ud800\n" + "b" * 5000]}).warnings
    assert warning.startswith("a???b") and len(warning) == MAX_WARNING
    assert header_of({"codec": "\ud800\x1b", "sample_rate": 8000, "channels": 1}).codec == "??"


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 10**9},
        {"damaged_s": float("nan")},
        {"damaged_s": -5.0},
        {"damaged_s": 3.0},
        {"samples": "many"},
        {"track": -7, "tracks": -3},
        {"track": 1},
        {"tracks": 10**20},
        {"channel": "each", "channels": 32},
        {"channel": "\x1b]0;x\x07"},
        {"channel": "9" * 50_000},
    ],
)
def test_a_report_that_no_file_has_is_not_believed(wrong: dict[str, Any]) -> None:
    assert report_of({"samples": 32_000, "damaged_s": 2.0, "track": 2, "tracks": 3, "channel": "1"}).channel == "1"
    with pytest.raises(ValueError):
        report_of({"samples": 32_000, **wrong})


def test_a_length_that_no_recording_has_says_nothing() -> None:
    for seconds in (-1e308, 1e308):
        assert length_of({"seconds": seconds, "certain": True}) is None


@pytest.mark.parametrize("message", [{}, {"answers": 5}, {"answers": []}, {"answers": [{}, {}]}, {"answers": ["bug"]}])
def test_there_are_as_many_answers_as_tasks(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        answers_of(message, 1)


def test_a_bug_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"decoder_died: a\.wav: decoding failed with a bug of ours"):
        found({"bug": "Traceback\n\x1b[2J\u202eERROR root: forged\n" + "A" * 1_000_000}, "a.wav")
    [record] = caplog.records
    assert record.message.isprintable() and len(record.message) < 2 * MAX_BUG
