from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from asr.data.manifest import write_manifest
from asr.data.sources import SourceConfig, prompts
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance
from train.data.splits import given_splits, rows_by_split, rows_of


def found(source: Path | str, **settings: str) -> dict[str, str | None]:
    splits = given_splits(SourceConfig(source=str(source), **settings))
    return {name: part.split for name, part in splits.items()}


def test_a_common_voice_release(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("train", "dev", "test", "validated", "other", "clip_durations"):
        (tmp_path / f"{name}.tsv").touch()
    assert found(tmp_path) == {"train": "train", "validation": "dev", "test": "test"}
    assert found(tmp_path / "train.tsv") == {}  # a table is one split


def test_folders_and_files_named_like_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / "audio" / name).mkdir(parents=True)
        (tmp_path / "audio" / name / "metadata.csv").touch()
    assert found(tmp_path / "audio") == {"train": "train", "test": "test"}
    (tmp_path / "table/data").mkdir(parents=True)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        (tmp_path / f"table/data/{name}.parquet").touch()
    assert found(tmp_path / "table", format="parquet") == {"train": "train", "validation": "validation"}


def test_one_split_is_none(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "train.tsv").touch()
    assert found(tmp_path) == {}
    (tmp_path / "mine.jsonl").touch()
    assert found(tmp_path / "mine.jsonl") == {}
    assert found("prompts:it") == {}


def test_a_data_set_saved_to_disk(tmp_path: Path) -> None:
    part = datasets.Dataset.from_dict({"text": ["ciao"]})
    datasets.DatasetDict({"train": part, "validation": part, "extra": part}).save_to_disk(str(tmp_path / "several"))
    assert found(tmp_path / "several") == {"train": "train", "validation": "validation"}
    part.save_to_disk(str(tmp_path / "one"))
    assert found(tmp_path / "one") == {}


def test_a_data_set_that_the_hub_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, config: str | None) -> list[str]:
        raise datasets.exceptions.DatasetNotFoundError(f"no {name}")

    monkeypatch.setattr(datasets, "get_dataset_split_names", unknown)
    with pytest.raises(UserError, match="hf:nobody/nothing: no nobody/nothing"):
        found("hf:nobody/nothing")
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["train", "test"])
    assert found("hf:some/body") == {"train": "train", "test": "test"}


def test_source_of_a_manifest(tmp_path: Path) -> None:
    row = Utterance("1", str(tmp_path / "a.wav"), "Ciao")
    write_manifest(tmp_path / "clips.jsonl", [row])
    assert rows_of(SourceConfig(source=str(tmp_path / "clips.jsonl"))) == [row]


def test_source_of_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = Utterance("1", "/a.g722", "Ciao"), Quarantined("beep", "no_speech")
    monkeypatch.setattr(prompts, "fetch", lambda language, cache: cache / language)
    monkeypatch.setattr(prompts, "utterances", lambda language, folder: ([good], [bad]))
    assert rows_of(SourceConfig(source="prompts:it")) == [good, bad]


@pytest.mark.parametrize(("spec", "meant"), [("prompt:it", "prompts:it"), ("FOLDER/clip.jsonl", "FOLDER/clips.jsonl")])
def test_source_that_is_none(tmp_path: Path, spec: str, meant: str) -> None:
    (tmp_path / "clips.jsonl").touch()
    with pytest.raises(UserError) as caught:
        rows_of(SourceConfig(source=spec.replace("FOLDER", str(tmp_path))))
    assert f"did you mean '{meant.replace('FOLDER', str(tmp_path))}'?" in str(caught.value)


def test_rows_come_by_split_where_there_are_several_or_one_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("train", "dev", "other"):
        (tmp_path / "clips" / f"{name}.mp3").touch()
        (tmp_path / f"{name}.tsv").write_text(f"client_id\tpath\tsentence\tlocale\nme\t{name}.mp3\tCiao\tit\n")
    for settings, names in (({}, ["train", "validation"]), ({"split": "other"}, ["other"])):
        by_split = rows_by_split(SourceConfig(source=str(tmp_path), **settings))
        assert isinstance(by_split, dict)
        assert [len(list(rows)) for rows in by_split.values()] == [1] * len(names)
        assert list(by_split) == names
    (tmp_path / "dev.tsv").unlink()
    ((row,),) = [rows_by_split(SourceConfig(source=str(tmp_path / "train.tsv")))]
    assert row.id.startswith("train")
