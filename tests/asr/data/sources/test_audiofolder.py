from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.io.storage import join
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import assert_same_speech, audio, good, message, read, write_audio


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata(tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str], kind: str) -> None:
    names = write_audio(tmp_path / "set/train/wavs", clips, "wav")
    rows = [{"file_name": f"wavs/{n}", "transcription": f"{c.text}"} for n, c in zip(names, clips, strict=True)]
    if kind == "csv":
        text = "file_name,transcription\n" + "".join(f'{r["file_name"]},"{r["transcription"]}"\n' for r in rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / f"set/train/metadata.{kind}").write_text(text)
    address = place(tmp_path / "set")
    assert_same_speech(read(address, split="train"), clips)
    assert read(address) == read(address, split="train") == read(join(address, "train"), format="audiofolder")


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["mp3", "g722"])
def test_pairs(tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str], kind: str) -> None:
    """Raw G.722 too, whose format only its name tells."""
    for name, clip in zip(write_audio(tmp_path / "set/a", clips, kind), clips, strict=True):
        (tmp_path / "set/a" / name).with_suffix(".txt").write_text(f"{clip.text}\n")
    (tmp_path / "set/a/notes.md").write_text("of no interest")
    found = good(read(place(tmp_path / "set"), language="en"))
    by_id = {row.id: row for row in found}
    assert_same_speech([by_id[f"a/{Path(str(c.audio)).stem}.{kind}"] for c in clips], clips)
    assert {row.language for row in found} == {"en"}


def test_what_has_no_other_half_is_told(tmp_path: Path) -> None:
    """Of 80 clips with their .txt, 20 dropped out without a word: films, and suffixes that nobody knows."""
    for name in ("a.mkv", "b.wav", "c.dss", "d.MOV", "e.au"):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).with_suffix(".txt").write_text(f"said {name}")
    for name in ("f.m4b", "g.xyz", "h.lab", "cover.jpg", "LICENSE", "._b.wav", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "i.txt").write_text("alone")
    (tmp_path / "e.txt").write_bytes(b"perch\xe9")
    found = read(str(tmp_path))
    texts = {row.id: row.text for row in found if isinstance(row, Utterance)}
    assert texts == {"a.mkv": "said a.mkv", "b.wav": "said b.wav", "d.MOV": "said d.MOV"}
    assert {row.id: row.reason for row in found if isinstance(row, Quarantined)} == {
        "c.txt": "missing_audio",
        "e.au": "malformed_row",
        "f.m4b": "no_transcript",
        "g.xyz": "not_audio",
        "i.txt": "missing_audio",
    }
    assert next(row for row in found if row.id == "c.txt").detail.endswith("no audio file beside it, only c.dss")


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def said(folder: Path, **settings: object) -> dict[str, str]:
    """What is said by id, or the reason why it is not known."""
    return {r.id: r.text if isinstance(r, Utterance) else r.reason for r in read(str(folder), **settings)}


@pytest.mark.parametrize("kind", ["txt", "lab"])
def test_clips_of_speakers_within_splits_were_no_source(tmp_path: Path, kind: str) -> None:
    for name in ("train/s1/x", "train/s2/deep/x", "test/s3/y"):
        write(tmp_path, {f"{name}.wav": "x", f"{name}.{kind}": f"said {name}"})
    write(tmp_path, {"train/s1/z.wav": "x"})
    train = {"s1/x.wav": "said train/s1/x", "s2/deep/x.wav": "said train/s2/deep/x", "s1/z.wav": "no_transcript"}
    assert said(tmp_path, split="train") == said(tmp_path / "train") == train
    assert said(tmp_path) == {f"train/{id}": text for id, text in train.items()} | {"test/s3/y.wav": "said test/s3/y"}


def test_transcripts_of_forced_aligners_were_not_looked_at(tmp_path: Path) -> None:
    """``.lab`` holds what is said; elsewhere the times of words or sounds, and then the ``.txt`` is the transcript."""
    files = {f"{name}.wav": "x" for name in "abcdefg"}
    files |= {"a.lab": "ciao a tutti\n", "b.lab": "0 100000 sil\n100000 2100000 ciao\n", "c.lab": "0.0\t0.5\tciao"}
    files |= {"d.lab": "0 5 x", "d.txt": "di", "e.TextGrid": "x", "f.lab": "2001 odissea", "g.lab": ""}
    write(tmp_path, files | {"alone.lab": "x"})
    assert said(tmp_path) == {
        **{"a.wav": "ciao a tutti", "b.wav": "no_transcript", "c.wav": "no_transcript", "d.wav": "di"},
        **{"e.wav": "no_transcript", "f.wav": "2001 odissea", "g.wav": "", "alone.lab": "missing_audio"},
    }


def test_a_folder_beside_the_one_with_a_table_vanished(tmp_path: Path) -> None:
    write(tmp_path, {"train/metadata.csv": "file_name,text\nx.wav,ciao\n", "train/x.wav": "x", "more/notes.md": "x"})
    assert said(tmp_path) == {"x.wav": "ciao"}
    write(tmp_path, {"more/s1/y.wav": "x", "more/s1/y.txt": "due"})
    assert f"does not describe all audio that is there, such as {tmp_path}/more/s1/y.wav" in message(str(tmp_path))
    assert said(tmp_path, split="train") == {"x.wav": "ciao"}
    assert said(tmp_path / "more") == {"s1/y.wav": "due"}


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_one_table_for_all_splits(tmp_path: Path, kind: str) -> None:
    """As ``datasets`` writes it: clips in train/ and test/, their table above."""
    rows = [{"file_name": f"{split}/{n}.wav", "text": f"{split} {n}"} for split in ("train", "test") for n in range(2)]
    for row in rows:
        (tmp_path / row["file_name"]).parent.mkdir(exist_ok=True)
        (tmp_path / row["file_name"]).write_bytes(b"x")
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    elif kind == "jsonl":
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        (tmp_path / "metadata.csv").write_text("file_name,text\n" + "".join(f"{','.join(r.values())}\n" for r in rows))
    assert message(str(tmp_path)) == f"{tmp_path}: its splits are test, train (say which: split: test)"
    found = good(read(str(tmp_path), split="test"))
    assert [(row.audio, row.text) for row in found] == [(f"{tmp_path}/test/{n}.wav", f"test {n}") for n in range(2)]
    assert "no row's audio is in a folder 'dev'" in message(str(tmp_path), split="dev")


def test_a_row_of_no_split_is_told_once(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,lang\ntrain/a.wav,uno,it\ntest/b.wav,due,xx\ntest/c.wav,tre,it\nd.wav,x,y,z\ne.wav,x,it\n"
    )
    assert [row.id for row in read(str(tmp_path), split="train")] == ["train/a.wav", "line 5", "e.wav"]
    assert [row.id for row in read(str(tmp_path), split="test")] == ["test/b.wav", "test/c.wav"]
    assert [row.reason for row in read(str(tmp_path), split="train") if isinstance(row, Quarantined)] == [
        "malformed_row",
        "no_split",
    ]


@pytest.mark.medium
def test_ljspeech(tmp_path: Path, clips: list[Utterance]) -> None:
    """A table without a header or quoting, ids without a suffix, and two texts: the one as it is read aloud counts."""
    for number, clip in enumerate(clips):
        (tmp_path / "wavs").mkdir(exist_ok=True)
        (tmp_path / f"wavs/LJ001-{number:04}.wav").write_bytes(audio(clip, "wav"))
    lines = [f'LJ001-{number:04}|Dr. "X|{clip.text}\n' for number, clip in enumerate(clips)]
    (tmp_path / "metadata.csv").write_text("".join(lines))
    found = good(read(str(tmp_path)))
    assert_same_speech(found, clips)
    assert [row.id for row in found] == [f"LJ001-{number:04}" for number in range(len(clips))]
    chosen = read(str(tmp_path), columns={"audio": 1, "text": 2})
    assert {row.text for row in good(chosen)} == {'Dr. "X'}


@pytest.mark.medium
def test_what_a_person_must_mend(tmp_path: Path, clips: list[Utterance]) -> None:
    write_audio(tmp_path / "a", clips[:1], "wav")
    assert "no .txt or .lab beside any of the 1 audio files" in message(str(tmp_path))
    (tmp_path / "texts.csv").write_text("file,text\na/x.wav,uno\n")
    table = message(str(tmp_path)).partition("name the table itself: ")[2].rstrip(")")
    assert [row.text for row in good(read(table))] == ["uno"]
    (tmp_path / "texts.csv").unlink()
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "metadata.csv").write_text("file_name,text\na.wav,uno\n")
    assert "its splits are test, train" in message(str(tmp_path))
    assert "no folder 'dev'" in message(str(tmp_path), split="dev", format="audiofolder")


@pytest.mark.medium
def test_a_name_that_is_no_text_ended_the_run_with_a_traceback(tmp_path: Path, clips: list[Utterance]) -> None:
    for stem in (b"a", b"\xff"):
        folder = os.fsencode(tmp_path)
        Path(os.fsdecode(folder + b"/" + stem + b".wav")).write_bytes(audio(clips[0], "wav"))
        Path(os.fsdecode(folder + b"/" + stem + b".txt")).write_text("said")
    (tmp_path / "b.wav").write_bytes(audio(clips[0], "wav"))
    (tmp_path / "b.txt").symlink_to("nowhere")
    odd, whole, broken = sorted(read(str(tmp_path), format="audiofolder"), key=lambda row: row.id)
    assert isinstance(whole, Utterance)
    assert [row.reason for row in (odd, broken) if isinstance(row, Quarantined)] == ["no_transcript"] * 2
    assert odd.id == "\\udcff.wav"


def test_a_transcript_of_a_gigabyte_is_not_read(tmp_path: Path, clips: list[Utterance]) -> None:
    write_audio(tmp_path, clips[:1], "wav")
    with open(next(tmp_path.glob("*.wav")).with_suffix(".txt"), "wb") as file:
        file.truncate(1 << 40)  # of holes; who reads it has no memory left
    (row,) = read(str(tmp_path), format="audiofolder")
    assert isinstance(row, Quarantined)
    assert row.reason == "malformed_row"
