from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from serve.access_log import AccessLog, Entry, request_id

ENTRY = Entry(
    "r1",
    "POST",
    "/v1/audio/transcriptions",
    200,
    1.23456,
    "tiny",
    "stable",
    "anna",
    12.5,
    ("one", "two"),
    "a secret of the patient",
)


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_request_is_one_line_of_json_without_its_words(tmp_path: Path) -> None:
    file = tmp_path / "access.jsonl"
    log = AccessLog(str(file))
    log.write(ENTRY)
    log.write(replace(ENTRY, status=404, model=None, audio_s=None, warnings=None))
    first, second = lines(file)
    assert "secret" not in file.read_text()
    assert set(first) == {
        "time",
        "request_id",
        "method",
        "path",
        "status",
        "seconds",
        "model",
        "version",
        "key",
        "audio_s",
        "warnings",
    }
    assert (first["status"], first["seconds"], first["audio_s"]) == (200, 1.2346, 12.5)
    assert (second["status"], second["model"], second["audio_s"]) == (404, None, None)
    assert (first["warnings"], second["warnings"]) == (["one", "two"], None)
    assert str(first["time"]).endswith("+00:00")


def test_words_are_there_where_they_were_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "access.jsonl"
    words = 'più "parole"\n再见'
    AccessLog(str(file), log_words=True).write(replace(ENTRY, words=words))
    assert [line["words"] for line in lines(file)] == [words]


def test_a_log_is_continued(tmp_path: Path) -> None:
    for _ in range(2):
        AccessLog(str(tmp_path / "access.jsonl")).write(ENTRY)
    assert len(lines(tmp_path / "access.jsonl")) == 2


def test_a_dash_is_standard_error_and_nothing_is_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    AccessLog("-").write(ENTRY)
    AccessLog("").write(ENTRY)
    out, err = capsys.readouterr()
    assert out == "" and json.loads(err)["request_id"] == "r1"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"access_log=.*none"):
        AccessLog(str(tmp_path / "none" / "a"))


@pytest.mark.parametrize("asked", ["abc-1", "7b1d:2.x_Y", "a" * 128])
def test_a_clients_own_id_is_kept(asked: str) -> None:
    assert request_id(asked) == asked


@pytest.mark.parametrize("asked", [None, ""])
def test_where_there_is_none_one_is_made(asked: str | None) -> None:
    assert len(request_id(asked)) == 32 and request_id(asked) != request_id(asked)


@pytest.mark.parametrize(
    ("asked", "kept"), [("a b", "a b"), ("a\r\nb: c", "a??b: c"), ("a" * 999, "a" * 128), ("ä\x85", "??")]
)
def test_what_could_do_harm_in_one_is_not_kept(asked: str, kept: str) -> None:
    assert request_id(asked) == kept


@given(st.text())
def test_an_id_never_breaks_a_header(asked: str) -> None:
    assert request_id(asked).isascii() and request_id(asked).isprintable() and len(request_id(asked)) <= 128
