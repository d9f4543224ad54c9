from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.io import storage
from serve.batch.inputs import find


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


@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_a_file_that_is_written_in_two_ways_was_transcribed_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(folder)
    ways = ["./b.mp3", "b.mp3", "deep//../b.mp3", f"{folder}/b.mp3", f"file://{folder}/b.mp3"]
    found = find([*ways, "./", str(folder)])
    assert [one.name for one in found.inputs] == ["b.mp3", "deep/er/A.WAV"]
    assert (found.repeated, found.not_audio) == (len(ways) + 2, {".txt": 1})
    lines = ways if kind == ".txt" else [json.dumps({"audio_filepath": way}) for way in ways]
    (folder / f"list{kind}").write_text("\n".join(lines))
    found = find([f"list{kind}"])
    assert [(one.name, one.bytes) for one in found.inputs] == [("b.mp3", 3)]
    assert str(found) == "named more than once: 4"


def test_lists_name_files_relative_to_themselves(folder: Path) -> None:
    (folder / "notes.txt").write_text(
        f"b.mp3\n\n  deep/er/A.WAV\n{folder.parent}/other/c.ogg\n../up.ogg\ns3://bucket/d.mp3\n"
    )
    found = find([str(folder / "notes.txt")], [str(folder.parent), "s3://bucket"])
    assert [one.name for one in found.inputs] == ["b.mp3", "deep/er/A.WAV", "c.ogg", "up.ogg", "d.mp3"]
    (folder / "rows.jsonl").write_text('{"audio_filepath": "deep/er/A.WAV", "text": "known"}\n')
    (found,) = find([str(folder / "rows.jsonl")]).inputs
    assert (found.address, found.name, found.bytes) == (f"{folder}/deep/er/A.WAV", "deep/er/A.WAV", 3)


@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
@pytest.mark.parametrize(
    "way", ["/etc/passwd", "../a.wav", "s3://b/d.mp3", "gs://b/a.wav?endpoint_override=evil&scheme=http"]
)
def test_a_list_does_not_choose_whose_files_are_read_with_whose_keys(folder: Path, kind: str, way: str) -> None:
    lines = ["b.mp3", way] if kind == ".txt" else [json.dumps({"audio_filepath": one}) for one in ("b.mp3", way)]
    (folder / f"list{kind}").write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"list\{kind}:2: .*outside of .*--audio-root"):
        find([str(folder / f"list{kind}")])


@pytest.mark.parametrize("word", ["deep/*.mp3", "empty", "empty.txt", "stretch.jsonl", "gone/*.wav"])
def test_what_means_nothing_is_a_persons_mistake(folder: Path, word: str) -> None:
    (folder / "empty").mkdir()
    (folder / "empty.txt").write_text("\n")
    (folder / "stretch.jsonl").write_text('{"audio_filepath": "b.mp3", "offset": 1.0, "duration": 2.0}\n')
    with pytest.raises(UserError, match=re.split(r"/?[*.]", word)[0]):
        find([f"{folder}/{word}"])


@pytest.mark.medium
def test_a_bucket(s3: str) -> None:
    for name in ("inputs/one.mp3", "inputs/more/two.ogg", "inputs/readme"):
        storage.write_bytes(storage.join(s3, *name.split("/")), b"abc")
    place = storage.join(s3, "inputs")
    found = find([place]).inputs
    assert [(one.name, one.bytes) for one in found] == [("more/two.ogg", 3), ("one.mp3", 3)]
    assert [storage.read_bytes(one.address) for one in found] == [b"abc"] * 2
    assert find([storage.join(s3, "inputs", "**", "*.ogg")]).inputs == found[:1]


def test_films_and_rare_formats_in_a_folder_are_found_and_the_rest_is_counted(tmp_path: Path) -> None:
    """Of nine recordings one was seen, and no word was said of the others."""
    kinds = (".mov", ".mkv", ".avi", ".3gp", ".m4b", ".caf", ".mpga", ".mpeg", ".wav")
    audio = [f"{n}{kind}" for n, kind in enumerate(kinds)]
    for name in [*audio, "a.txt", "b.txt", "c.pdf", "LICENSE", "._0.mov", ".DS_Store", "__MACOSX/0.mov"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find([str(tmp_path), f"{tmp_path}/*", f"{tmp_path}/0.mov"])
    assert [one.name for one in found.inputs] == audio
    assert (found.repeated, found.not_audio) == (10, {".txt": 2, ".pdf": 1, "": 1})
    assert str(found) == (
        "left out, not audio by their names: 2 .txt, 1 without a suffix, 1 .pdf; named more than once: 10"
    )
    assert str(find([f"{tmp_path}/0.mov"])) == ""


def test_what_is_asked_for_by_name_is_not_left_out(folder: Path) -> None:
    (folder / "record").write_bytes(b"abcd")
    found = find([str(folder), f"{folder}/record"])
    assert [one.name for one in found.inputs] == ["b.mp3", "deep/er/A.WAV", "record"]
    assert found.not_audio == {".txt": 1}


def test_a_folder_without_audio_is_told_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no audio files are there, only 1 of other kinds: \.pdf"):
        find([str(tmp_path)])


@given(st.sets(st.sampled_from([f"{n}{kind}" for n in "ab" for kind in (".wav", ".MOV", ".txt", ".xyz", "", ".json")])))
def test_found_and_left_out_are_all_that_is_there(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        for name in {"first.opus", *names}:
            Path(place, name).write_bytes(b"x")
        found = find([place])
    assert len(found.inputs) + sum(found.not_audio.values()) == len(names) + 1
