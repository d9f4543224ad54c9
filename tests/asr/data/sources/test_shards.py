from __future__ import annotations

from pathlib import Path

import pytest

from asr.data.sources import SourceConfig
from asr.data.sources.shards import shards
from asr.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("data/train-0.tar", "data/train-1.tar", "test/0.tar", "extra_9.tar", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(folder: Path, split: str | None = None) -> list[str]:
    return [entry.name for entry in shards(SourceConfig(source=str(folder), split=split), ".tar")]


def test_splits(folder: Path) -> None:
    assert names(folder, "train") == ["data/train-0.tar", "data/train-1.tar"]
    assert names(folder, "test") == ["test/0.tar"]
    assert names(folder, "extra") == ["extra_9.tar"]
    assert names(folder / "data") == ["data/train-0.tar".rpartition("/")[2], "train-1.tar"]
    assert names(folder / "extra_9.tar") == ["extra_9.tar"]


def test_what_a_person_must_mend(folder: Path) -> None:
    with pytest.raises(UserError, match=r"its splits are test, train \(say which"):
        names(folder)
    with pytest.raises(UserError, match=r"split 'trian': .* did you mean 'train'|did you mean 'train'"):
        names(folder, "trian")
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \*\.tar files"):
        names(folder / "empty")
    with pytest.raises(UserError, match="no such file"):
        names(folder / "none")


def test_a_shard_that_is_packed_or_shouts_is_not_passed_over(folder: Path) -> None:
    (folder / "data/train-2.TAR").touch()
    assert names(folder / "data")[-1] == "train-2.TAR"
    (folder / "data/train-3.tar.gz").touch()
    with pytest.raises(UserError, match=r"1 of its files are compressed and cannot be read, such as train-3\.tar\.gz"):
        names(folder / "data")
