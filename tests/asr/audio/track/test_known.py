from __future__ import annotations

import io
import os
from pathlib import Path

from asr.audio.track import known
from asr.audio.track.known import is_on_disk, remembered


def asked(what: str, path: Path, answers: list[int]) -> int:
    with path.open("rb") as file:
        return remembered(what, file, lambda: answers.append(1) or len(answers))  # type: ignore[func-returns-value]


def test_a_file_on_disk_is_asked_once_for_each_thing(tmp_path: Path) -> None:
    path, answers = tmp_path / "a", list[int]()
    path.write_bytes(b"one")
    assert [asked("this", path, answers) for _ in range(3)] == [1, 1, 1]
    assert asked("that", path, answers) == 2
    path.write_bytes(b"other")
    assert asked("this", path, answers) == 3
    os.utime(path, ns=(1, 1))  # of the same size, written later
    assert asked("this", path, answers) == 4


def test_what_is_not_on_disk_is_asked_each_time() -> None:
    file = io.BytesIO(b"upload")
    answers = iter(range(2))
    assert [remembered("this", file, lambda: next(answers)) for _ in range(2)] == [0, 1] and not is_on_disk(file)


def test_it_forgets_what_it_was_asked_longest_ago(tmp_path: Path) -> None:
    path, answers = tmp_path / "a", list[int]()
    path.write_bytes(b"one")
    for number in range(known.MAX_KNOWN + 1):
        asked(str(number), path, answers)
    assert asked("1", path, answers) == 2 and asked("0", path, answers) == known.MAX_KNOWN + 2
