from __future__ import annotations

import re
from pathlib import Path

import pytest

from asr import storage
from asr.errors import UserError
from serve.bulk.inputs import find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings on two levels, among what is none."""
    for name in ("b.mp3", "deep/er/A.WAV", "notes.txt", ".hidden.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"abc")
    return tmp_path


def names(*words: object) -> list[str]:
    return [one.name for one in find([str(word) for word in words]).inputs]


def test_a_folder_is_searched_at_any_depth_for_what_is_called_audio(folder: Path) -> None:
    found = find([str(folder)]).inputs
    assert [(one.name, one.bytes) for one in found] == [("b.mp3", 3), ("deep/er/A.WAV", 3)]
    assert [Path(one.address).read_bytes() for one in found] == [b"abc", b"abc"]


def test_a_file_is_taken_whatever_its_name_and_whether_it_is_there_or_not(folder: Path) -> None:
    (folder / "record").write_bytes(b"abcd")
    assert [(one.name, one.bytes) for one in find([f"{folder}/record", f"file://{folder}/gone.wav"]).inputs] == [
        ("record", 4),
        ("gone.wav", 0),
    ]


def test_patterns(folder: Path) -> None:
    assert names(f"{folder}/*.mp3") == ["b.mp3"]
    assert names(f"{folder}/**/*.WAV") == ["deep/er/A.WAV"]
    assert names(f"{folder}/deep/*/A*") == ["er/A.WAV"]
    assert names(f"{folder}/**") == ["b.mp3", "deep/er/A.WAV"]


def test_what_is_meant_twice_is_done_once(folder: Path) -> None:
    assert names(folder / "b.mp3", folder, f"{folder}/*") == ["b.mp3", "deep/er/A.WAV"]


def test_lists_name_files_relative_to_themselves(folder: Path) -> None:
    (folder / "notes.txt").write_text(
        f"b.mp3\n\n  deep/er/A.WAV\n{folder.parent}/other/c.ogg\n../up.ogg\ns3://bucket/d.mp3\n"
    )
    assert names(folder / "notes.txt") == ["b.mp3", "deep/er/A.WAV", "c.ogg", "up.ogg", "d.mp3"]
    (folder / "rows.jsonl").write_text('{"audio_filepath": "deep/er/A.WAV", "text": "known"}\n')
    (found,) = find([str(folder / "rows.jsonl")]).inputs
    assert (found.address, found.name, found.bytes) == (f"{folder}/deep/er/A.WAV", "deep/er/A.WAV", 3)


@pytest.mark.parametrize("word", ["deep/*.mp3", "empty", "empty.txt", "stretch.jsonl", "gone/*.wav"])
def test_what_means_nothing_is_a_persons_mistake(folder: Path, word: str) -> None:
    (folder / "empty").mkdir()
    (folder / "empty.txt").write_text("\n")
    (folder / "stretch.jsonl").write_text('{"audio_filepath": "b.mp3", "offset": 1.0, "duration": 2.0}\n')
    with pytest.raises(UserError, match=re.split(r"/?[*.]", word)[0]):
        find([f"{folder}/{word}"])


def test_a_bucket(s3: str) -> None:
    for name in ("inputs/one.mp3", "inputs/more/two.ogg", "inputs/readme"):
        storage.write_bytes(storage.join(s3, *name.split("/")), b"abc")
    place = storage.join(s3, "inputs")
    found = find([place]).inputs
    assert [(one.name, one.bytes) for one in found] == [("more/two.ogg", 3), ("one.mp3", 3)]
    assert [storage.read_bytes(one.address) for one in found] == [b"abc"] * 2
    assert find([storage.join(s3, "inputs", "**", "*.ogg")]).inputs == found[:1]
