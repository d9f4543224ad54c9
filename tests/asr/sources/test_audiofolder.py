from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.storage import join
from asr.utterance import Utterance
from tests.asr.sources.clips import assert_same_speech, good, message, read, write_audio


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


def test_a_file_without_text_is_kept(tmp_path: Path, clips: list[Utterance]) -> None:
    names = write_audio(tmp_path, clips[:2], "wav")
    (tmp_path / names[0]).with_suffix(".txt").write_text("uno")
    assert {row.id: row.text for row in good(read(str(tmp_path)))} == {names[0]: "uno", names[1]: ""}


def test_what_a_person_must_mend(tmp_path: Path, clips: list[Utterance]) -> None:
    write_audio(tmp_path / "a", clips[:1], "wav")
    assert "no .txt beside any of the 1 audio files" in message(str(tmp_path))
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "metadata.csv").write_text("file_name,text\na.wav,uno\n")
    assert "its splits are test, train" in message(str(tmp_path))
    assert "no folder 'dev'" in message(str(tmp_path), split="dev", format="audiofolder")
