from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.config import resolve
from asr.errors import UserError
from asr.io import storage
from asr.models.artifact import CARD
from asr.utterance import Quarantined
from tests.manifests import read_quarantine
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig


def config(folder: str, *settings: str) -> TrainConfig:
    plain = ["base=none", "data.train=none.jsonl", "run.name=first", f"run.folder={json.dumps(folder)}"]
    return resolve(TrainConfig, None, [*plain, *settings]).value


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    return storage.join(request.getfixturevalue("s3"), tmp_path.name)


def test_a_run_goes_on_with_the_settings_it_was_started_with(folder: str) -> None:
    run = RunFolder.of(config(folder))
    run.claim(config(folder), "data", None)
    run.claim(config(folder, "workers.count=2", "batching.micro_batches_per_step=1", "workers.count=1"), "data", None)
    with pytest.raises(UserError, match=r"first.*: this run was started with other settings: seed, optim "):
        run.claim(config(folder, "seed=1", "optim.max_steps=20"), "data", None)
    with pytest.raises(UserError, match=r"other settings: data\.train"):
        run.claim(config(folder), "other data", None)


def test_a_run_of_the_version_before_goes_on(folder: str) -> None:
    run = RunFolder.of(config(folder))
    run.claim(config(folder), "data", None)
    written = storage.read_text(run.file("run.json"))
    assert '"batching": {' in written
    storage.write_text(run.file("run.json"), written.replace('"batching": {', '"plan": {'))
    run.claim(config(folder), "data", None)
    with pytest.raises(UserError, match="other settings: batching "):
        run.claim(config(folder, "batching.max_clips=3"), "data", None)


def test_a_sharded_run_does_not_change_its_number_of_workers(folder: str) -> None:
    sharded = config(folder, "parallelism=zero2")
    RunFolder.of(sharded).claim(sharded, "data", 4)
    RunFolder.of(sharded).claim(sharded, "data", 4)
    with pytest.raises(UserError, match=r"zero2 cannot go on with 2 workers, its .* 4 shards .*workers\.count=4"):
        RunFolder.of(sharded).claim(sharded, "data", 2)


def test_the_artifact_appears_whole_and_ends_the_run(folder: str) -> None:
    run = RunFolder.of(config(folder))
    run.require_unfinished()
    with pytest.raises(ZeroDivisionError), run.artifact_draft() as draft:
        (draft / "weights").write_text("half")
        raise ZeroDivisionError
    run.require_unfinished()
    assert not storage.exists(run.file("artifact", "weights"))
    with run.artifact_draft() as draft:
        (draft / "weights").write_text("whole")
        (draft / CARD).write_text("{}")
    assert storage.read_text(run.file("artifact", "weights")) == "whole"
    with pytest.raises(UserError, match="this run is finished"):
        run.require_unfinished()


def test_a_folder_in_the_artifacts_way_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "first" / "artifact").mkdir(parents=True)
    with pytest.raises(UserError, match=r"in the way of this run's artifact"):
        RunFolder.of(config(str(tmp_path))).require_unfinished()


def test_the_quarantine_table_holds_every_row(folder: str, tmp_path: Path) -> None:
    rows = [Quarantined("a", "missing_file", "no such file"), Quarantined("b", "too_long")]
    run = RunFolder.of(config(folder))
    run.write_quarantine(rows)
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(storage.read_bytes(run.file("quarantine.parquet")))
    assert read_quarantine(copy) == rows


def test_ray_keeps_its_checkpoints_there(folder: str) -> None:
    run = RunFolder.of(config(folder))
    settings = run.run_config()
    filesystem, path = storage.resolve(run.uri)
    assert settings.storage_path == path
    assert settings.storage_filesystem.type_name == filesystem.type_name


def test_a_relative_folder_is_seen_from_where_a_job_keeps_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative = resolve(TrainConfig, None, ["base=x", "data.train=y", "run.name=a"]).value
    elsewhere = resolve(TrainConfig, None, ["base=x", "data.train=y", "run.name=a", "run.folder=gs://b/runs"]).value
    for name in ("WHISPERFLEET_STORAGE", "WHISPERFLEET_JOB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert RunFolder.of(relative).uri == str(tmp_path / "runs" / "a")
    monkeypatch.setenv("WHISPERFLEET_JOB", "train-a")
    with pytest.raises(UserError, match=r"run\.folder=runs is relative, .*--storage"):
        RunFolder.of(relative)
    monkeypatch.setenv("WHISPERFLEET_STORAGE", "s3://bucket/speech")
    assert RunFolder.of(relative).uri == "s3://bucket/speech/runs/a"
    assert RunFolder.of(elsewhere).uri == "gs://b/runs/a"
    monkeypatch.setenv("WHISPERFLEET_STORAGE", str(tmp_path / "shared"))
    assert RunFolder.of(relative).uri == str(tmp_path / "shared" / "runs" / "a")


def test_a_run_whose_base_is_near_goes_on_after_all_of_it_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that an earlier version recorded, with the base as it was written."""
    for name in ("here", "there", "elsewhere"):
        (tmp_path / name / "base").mkdir(parents=True)

    def claim(folder: str, base: str) -> None:
        monkeypatch.chdir(tmp_path / folder)
        config = resolve(TrainConfig, None, [f"base={base}", "data.train=a.jsonl", f"run.folder={tmp_path}"]).value
        RunFolder.of(config).claim(config, "sha256:1", None)

    claim("here", "base")
    claim("there", "base")
    claim("there", str(tmp_path / "here" / "base"))  # the very same, named from another folder
    with pytest.raises(UserError, match="other settings: base"):
        claim("there", str(tmp_path / "elsewhere" / "base"))
    record = next(tmp_path.glob("*/run.json"))
    earlier = json.loads(record.read_text())
    earlier["settings"] = earlier.pop("seen")
    record.write_text(json.dumps(earlier))
    claim("there", "base")
