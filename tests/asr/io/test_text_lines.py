from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.io import storage, text_lines
from asr.io.text_lines import TOO_LONG, BoundedText


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what lies above them is read in no time."""
    monkeypatch.setattr(text_lines, "MAX_LINE", 1000)
    monkeypatch.setattr(text_lines, "FEW_BYTES", 10_000)


def lines(data: bytes) -> list[str]:
    return list(BoundedText(io.BytesIO(data), "x", None))


def test_only_a_newline_ends_a_line_and_a_mark_is_skipped() -> None:
    assert lines("\ufeffa\rb\u2028c\n\nd".encode()) == ["a\rb\u2028c\n", "\n", "d"]


@pytest.mark.parametrize("length", [998, 999, 1000, 1001, 2000, 2001, 50_000])
def test_a_line_that_took_all_memory_is_one_line_that_says_so(length: int) -> None:
    expected = "x" * length + "\n" if length <= 999 else TOO_LONG
    assert lines(b"a\n" + b"x" * length + b"\nb\n") == ["a\n", expected, "b\n"]
    assert lines(b"x" * length) == ["x" * length if length < 1000 else TOO_LONG]


def test_a_part_of_a_line_can_be_asked_for() -> None:
    file = BoundedText(io.BytesIO(b"x" * 5000), "x", None)
    assert (file.readline(10), len(file.readline(3000))) == ("x" * 10, 3000)


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 100_000))
    with (
        pytest.raises(UserError, match="unpacks to over 100 times its size"),
        storage.open_text(tmp_path / "a.jsonl.gz") as file,
    ):
        for _ in file:
            pass


def test_a_packed_file_as_people_have_them(tmp_path: Path) -> None:
    rows = [f'{{"audio_filepath": "clips/{n:08}.wav", "duration": 1.{n}, "text": ""}}\n' for n in range(10_000)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("".join(rows).encode()))
    with storage.open_text(tmp_path / "a.jsonl.gz") as file:
        assert list(file) == rows
