from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from asr.audio.decode import decode
from asr.errors import DataError
from asr.io.storage import join
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import assert_same_speech, audio, good, message, read


def write(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(clips: Sequence[Utterance], kind: str, first: int = 0) -> list[tuple[str, bytes]]:
    """Odd samples have a ``.txt``, even ones all in ``.json``."""
    files = []
    for number, clip in enumerate(clips, start=first):
        key = f"./part/{number:04}"
        files.append((f"{key}.{kind}", audio(clip, kind)))
        if number % 2:
            files.append((f"{key}.txt", f"{clip.text}\n".encode()))
        else:
            fields = {"text": clip.text, "duration": clip.duration_s, "lang": "en", "path": "/gone.wav", "words": [1]}
            files.append((f"{key}.json", json.dumps(fields).encode()))
    return files


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["mp3", "g722"])
def test_round_trip(tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str], kind: str) -> None:
    write(tmp_path / "set/train-000.tar", samples(clips[:2], kind))
    write(tmp_path / "set/train-001.tar", samples(clips[2:], kind, first=2))
    write(tmp_path / "set/test-000.tar", samples(clips[:1], kind))
    address = place(tmp_path / "set")
    found = good(read(address, split="train"))
    assert_same_speech(found, clips)
    assert [row.id for row in found] == [f"part/{n:04}" for n in range(5)]
    assert [row.duration_s for row in found] == [
        clips[0].duration_s,
        None,
        clips[2].duration_s,
        None,
        clips[4].duration_s,
    ]
    assert found[0].meta == {}
    assert read(join(address, "train-001.tar")) == found[2:]
    assert "its splits are test, train" in message(address)


def test_samples_differ(tmp_path: Path, clips: list[Utterance]) -> None:
    wav = audio(clips[0], "wav")
    files = [
        *[("a.wav", wav), ("a.transcript.txt", b"x"), ("a.json", b'{"said": "uno"}')],
        *[("b.json", b'{"said": "due", "audio": "/etc/passwd"}')],
        *[("c.flac", audio(clips[0], "flac")), ("c.json", b'{"said": "tre"}')],
        *[("d.wav", wav), ("d.json", b"{")],
        *[("e.wav", wav)],
    ]
    found = read(str(write(tmp_path / "a.tar", files)), columns={"text": "said"})
    assert [(row.id, row.reason) for row in found if isinstance(row, Quarantined)] == [
        ("b", "missing_audio"),
        ("d", "malformed_row"),
        ("e", "no_transcript"),
    ]
    utterances = [row for row in found if isinstance(row, Utterance)]
    assert [(row.id, row.text) for row in utterances] == [("a", "uno"), ("c", "tre")]
    assert len({len(decode(row.audio)) for row in utterances}) == 1


def test_names_with_dots(tmp_path: Path, clips: list[Utterance]) -> None:
    """Thirty samples lay under one key."""
    wav, files = audio(clips[0], "wav"), []
    for number in range(40):
        key = f"talk_{number // 30}.{number:02}"
        files += [(f"{key}.wav", wav), (f"{key}.txt", f"said {number}".encode())]
    found = good(read(str(write(tmp_path / "a.tar", files))))
    assert [row.text for row in found] == [f"said {number}" for number in range(40)]
    assert (found[0].id, found[-1].id) == ("talk_0.00", "talk_1.39")


def test_a_tar_made_on_a_mac(tmp_path: Path, clips: list[Utterance]) -> None:
    wav = audio(clips[0], "wav")
    names = [
        "._a.wav",
        "a.wav",
        "._a.txt",
        "a.txt",
        ".DS_Store",
        "__MACOSX/._b.wav",
        "b.wav",
        "b.txt",
        "PaxHeaders/x.wav",
    ]
    files = [(name, b"said" if name.endswith(".txt") else wav) for name in names]
    assert [row.id for row in good(read(str(write(tmp_path / "a.tar", files))))] == ["a", "b"]


def test_files_out_of_order_and_twice(tmp_path: Path, clips: list[Utterance]) -> None:
    wav = audio(clips[0], "wav")
    names = ["a.wav", "a.txt", "b.wav", "b.txt", "b.wav", "c.wav", "d.wav", "d.txt", "c.txt"]
    found = read(str(write(tmp_path / "a.tar", [(name, b"x" if name.endswith("t") else wav) for name in names])))
    assert [(row.id, row.text if isinstance(row, Utterance) else row.reason) for row in found] == [
        *[("a", "x"), ("b", "x"), ("b", "malformed_row"), ("c", "no_transcript"), ("d", "x"), ("c", "malformed_row")]
    ]


def test_which_of_two_recordings(tmp_path: Path, clips: list[Utterance]) -> None:
    files = [("a.far.wav", audio(clips[0], "wav")), ("a.near.wav", audio(clips[1], "wav")), ("a.txt", b"uno")]
    (row,) = good(read(str(write(tmp_path / "a.tar", files)), columns={"audio": "near.wav"}))
    assert len(decode(row.audio)) == len(decode(clips[1].audio))


@pytest.mark.medium
@pytest.mark.parametrize("cut", ["clip", "header", "between", "zeros"])
def test_a_cut_tar_gives_what_is_whole(tmp_path: Path, clips: list[Utterance], cut: str) -> None:
    path = write(tmp_path / "a.tar", samples(clips, "wav"))
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-2]
    data = path.read_bytes()
    ends = {"clip": last.offset_data + 1000, "header": last.offset + 100, "between": last.offset}
    path.write_bytes(data[: ends[cut]] if cut in ends else data[: last.offset] + b"x" * 512 + data[last.offset + 512 :])
    found = read(str(path))
    assert isinstance(found[-1], Quarantined)
    assert found[-1].reason == "truncated"
    whole = good(found[:-1])
    assert_same_speech(whole, clips[: len(whole)])
    assert len(whole) == (4 if cut == "clip" else 3)


def test_a_tar_that_shrank_later(tmp_path: Path, clips: list[Utterance]) -> None:
    path = write(tmp_path / "a.tar", samples(clips[:2], "wav"))
    first, second = good(read(str(path)))
    path.write_bytes(path.read_bytes()[:-40_000])
    assert len(decode(first.audio)) == len(decode(clips[0].audio))
    with pytest.raises(DataError, match="truncated"):
        decode(second.audio)


def test_what_a_person_must_mend(tmp_path: Path, clips: list[Utterance]) -> None:
    (tmp_path / "a.tar").write_bytes(b"not a tar" * 200)
    assert "not an uncompressed tar" in message(str(tmp_path / "a.tar"))
    write(tmp_path / "b.tar", [("a.wav", audio(clips[0], "wav")), ("a.json", b'{"said": "uno"}')])
    assert "no column for text: its columns are __key__, said, audio" in message(str(tmp_path / "b.tar"))
    assert "tar --sort=name" in message(str(tmp_path / "b.tar"))
    assert "no column 'sad' for text" in message(str(tmp_path / "b.tar"), columns={"text": "sad"})
    (tmp_path / "empty").mkdir()
    assert "no *.tar files" in message(str(tmp_path / "empty"), format="webdataset")


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w:gz"), ("a.tar", "w:xz"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")]
)
def test_a_packed_tar_is_told_how_to_unpack_it(tmp_path: Path, name: str, mode: Any) -> None:
    with tarfile.open(tmp_path / name, mode) as tar:
        tar.addfile(tarfile.TarInfo("a.wav"))
    tool = "unxz" if mode == "w:xz" else "gunzip"
    assert f"unpack it: {tool}" in message(str(tmp_path / name))
    assert f"unpack it: {tool}" in message(str(tmp_path / name), format="webdataset")


@pytest.mark.medium
@pytest.mark.parametrize("size", [-512, -(2**60), 2**60, 2**80])
def test_a_size_that_leads_nowhere_never_ended(tmp_path: Path, clips: list[Utterance], size: int) -> None:
    """Also: ended the run with a traceback, or none of the tar was read."""
    path = write(tmp_path / "a.tar", [*samples(clips[:1], "wav"), *samples(clips[1:2], "wav", first=1)])
    hostile = bytearray(tarfile.TarInfo("x.wav").tobuf())
    hostile[124:136] = bytes([0xFF if size < 0 else 0x80]) + size.to_bytes(11, "big", signed=True)
    hostile[148:156] = b" " * 8
    hostile[148:156] = b"%06o\0 " % sum(hostile)
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + tarfile.BLOCKSIZE
    path.write_bytes(path.read_bytes()[:end] + hostile + bytes(10 * tarfile.BLOCKSIZE))
    found = read(str(path))
    assert isinstance(found[-1], Quarantined)
    assert found[-1].reason == "truncated"
    assert_same_speech(found[:1], clips[:1])


def test_files_with_holes_are_not_taken_for_sound(tmp_path: Path, clips: list[Utterance]) -> None:
    path = write(tmp_path / "a.tar", [("a.wav", audio(clips[0], "wav")), ("a.txt", b"uno"), *samples(clips[:1], "wav")])
    data = bytearray(path.read_bytes())
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    first, second = read(str(path))
    assert isinstance(first, Quarantined)
    assert "sparse" in first.detail
    assert isinstance(second, Utterance)


@pytest.mark.medium
def test_clips_of_a_second_tar_joined_on_vanished(tmp_path: Path, clips: list[Utterance]) -> None:
    parts = [write(tmp_path / f"{n}.tar", samples(clips[n : n + 1], "wav", first=n)) for n in range(3)]
    joined = tmp_path / "joined.tar"
    joined.write_bytes(b"".join(path.read_bytes() for path in parts))
    found = good(read(str(joined)))
    assert_same_speech(found, clips[:3])
    joined.write_bytes(parts[0].read_bytes() + b"x" * 512)
    first, rest = read(str(joined))
    assert_same_speech(good([first]), clips[:1])
    assert isinstance(rest, Quarantined) and rest.reason == "truncated"
    assert "goes on behind its end, with what is no tar, at byte" in rest.detail


@pytest.mark.medium
def test_a_hard_linked_clip_left_only_its_text(tmp_path: Path, clips: list[Utterance]) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.wav").write_bytes(audio(clips[0], "wav"))
    (folder / "b.wav").hardlink_to(folder / "a.wav")
    (folder / "c.wav").symlink_to("a.wav")
    (folder / "d.wav").symlink_to("/etc/passwd")
    (folder / "latest").symlink_to("2024")
    for name in "abcd":
        (folder / f"{name}.txt").write_text(clips[0].text)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
        assert [one.type for one in tar.getmembers()].count(tarfile.LNKTYPE) == 1
    *found, last = read(str(tmp_path / "a.tar"))
    assert_same_speech(good(found), [clips[0]] * 3)
    assert isinstance(last, Quarantined) and (last.id, last.reason) == ("d", "malformed_row")
    assert "d.wav is a link to /etc/passwd, which is no file earlier in the tar" in last.detail
