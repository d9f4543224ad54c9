from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from serve.ingress.telemetry.access_log import AccessLog, AccessLogEntry, request_id
from tests.asr.disks import fill, read_only, small_disk

ENTRY = AccessLogEntry(
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


def test_a_disk_that_fills_up_is_told_once_and_ends_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(logging.getLogger("ray.serve"), "handle", lambda record: messages.append(record.getMessage()))
    with small_disk(tmp_path / "disk", 1) as disk:
        file = disk / "access.jsonl"
        log = AccessLog(str(file))
        log.write(ENTRY)
        ballast = fill(disk)
        for _ in range(30):  # the first of them find room in the page that is begun
            log.write(ENTRY)
        (told,) = messages
        assert told == f"access_log={file} cannot be written, requests are answered: No space left on device"
        ballast.unlink()
        log.write(replace(ENTRY, request_id="later"))
        log.write(replace(ENTRY, request_id="last"))
        written = file.read_text().splitlines()
    assert [json.loads(line)["request_id"] for line in written[-2:]] == ["later", "last"]
    lost = re.fullmatch(rf"access_log={file} can be written again, (\d+) lines were lost", messages[-1])
    assert len(messages) == 2 and lost is not None
    whole = sum(line.startswith("{") and line.endswith("}") for line in written)
    assert whole + int(lost[1]) == 33


def test_a_log_that_goes_away_later_ends_no_request(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = AccessLog(str(tmp_path / "logs" / "a"))
    (tmp_path / "logs" / "a").unlink()
    (tmp_path / "logs").rmdir()
    log.write(ENTRY)
    (tmp_path / "logs").mkdir()
    log.write(ENTRY)
    assert [line["request_id"] for line in lines(tmp_path / "logs" / "a")] == ["r1"]


def test_a_read_only_place_is_named_when_it_is_opened(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        read_only(disk)
        with pytest.raises(UserError, match=rf"{disk}/a: a read-only file system"):
            AccessLog(str(disk / "a"))


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


def test_a_path_cannot_command_the_terminal_nor_fill_the_disk(tmp_path: Path) -> None:
    AccessLog(str(tmp_path / "a")).write(replace(ENTRY, path="/\x9b2J\u2028\ud800" + "x" * 60_000, method="M" * 9000))
    [line] = lines(tmp_path / "a")
    assert line["path"].isprintable() and len((tmp_path / "a").read_text()) < 1000
