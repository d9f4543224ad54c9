from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asr.data.sources import SourceConfig
from asr.data.sources.detect import detect
from asr.errors import UserError
from asr.io.storage import join

FOLDERS = {
    "common_voice": ["clips/a.mp3", "train.tsv"],
    "huggingface": ["state.json", "data-00000-of-00001.arrow"],
    "audiofolder": ["train/metadata.csv", "train/a.wav"],
    "parquet": ["data/train-00000-of-00001.parquet", "README.md"],
    "webdataset": ["000.tar", "001.tar"],
}


def touch(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def found(source: str, split: str | None = None) -> str:
    return detect(SourceConfig(source=source, split=split))


def message(source: str) -> str:
    with pytest.raises(UserError) as caught:
        found(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.medium
@pytest.mark.parametrize("format", FOLDERS)
def test_folders(tmp_path: Path, place: Callable[[Path], str], format: str) -> None:
    assert found(place(touch(tmp_path / "set", FOLDERS[format]))) == format


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "format"),
    [("a.jsonl", "manifest"), ("a.csv", "csv"), ("a.tsv", "csv"), ("a.parquet", "parquet"), ("a.TAR", "webdataset")],
)
def test_files(tmp_path: Path, place: Callable[[Path], str], name: str, format: str) -> None:
    assert found(join(place(touch(tmp_path / "set", [name])), name)) == format


def test_names() -> None:
    assert found("prompts:it") == "prompts"
    assert found("hf:owner/name") == "huggingface"


def test_audio_in_subfolders_and_a_table_of_a_release(tmp_path: Path) -> None:
    assert found(str(touch(tmp_path / "pairs", ["a/b.wav", "a/b.txt"]))) == "audiofolder"
    release = touch(tmp_path / "cv", ["clips/a.mp3"])
    (release / "dev.tsv").write_text("client_id\tpath\tsentence\n1\ta.mp3\tciao\n")
    assert found(str(release / "dev.tsv")) == "common_voice"
    both = touch(tmp_path / "both", ["test/a.tar", "train/metadata.csv"])
    assert found(str(both), "train") == "audiofolder"


def test_what_was_looked_for(tmp_path: Path) -> None:
    assert "clips/, *.tsv" in message(str(touch(tmp_path / "docs", ["a.pdf"])))
    assert "'.pdf' says no format" in message(str(tmp_path / "docs/a.pdf"))
    prepared = touch(tmp_path / "prepared", ["train.jsonl", "test.jsonl", "audio/a.flac"])
    assert "test.jsonl, train.jsonl (name one of them)" in message(str(prepared))
    assert "did you mean 'prompts:it'?" in message("prompt:it")
    assert f"did you mean '{prepared}/train.jsonl'?" in message(str(prepared / "trian.jsonl"))
    assert "is no file, no folder" in message("")


def test_a_table_beside_clips_that_names_them_from_its_own_folder_is_no_release(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for text, format in (("path\tsentence\na.mp3\tx\n", "common_voice"), ("path\tsentence\nclips/a.mp3\tx\n", "csv")):
        (tmp_path / "train.tsv").write_text(text)
        assert detect(SourceConfig(source=str(tmp_path / "train.tsv"))) == format
    (tmp_path / "train.tsv").write_text("clips/a.mp3\tx\n")
    assert detect(SourceConfig(source=str(tmp_path / "train.tsv"))) == "csv"
