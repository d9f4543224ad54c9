"""What is left of Ray's record; a run that goes on from a torn one is in test_attempts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.config import resolve
from train.checkpoints.ray_snapshot import mend, newest
from train.checkpoints.run_folder import RunFolder
from train.checkpoints.upload import STATE
from train.config import TrainConfig

RECORD = "checkpoints/checkpoint_manager_snapshot.json"


def a_run(tmp_path: Path, record: str, *steps: int) -> RunFolder:
    settings = [
        "base=builtin:tiny.en",
        "data.train=train.jsonl",
        "optim.max_steps=90",
        f"run.folder={tmp_path}",
        "run.name=a",
    ]
    run = RunFolder.of(resolve(TrainConfig, None, settings).value)
    for step in steps:
        folder = tmp_path / "a" / "checkpoints" / f"step_{step:07d}"
        folder.mkdir(parents=True)
        (folder / STATE).write_text(json.dumps({"step": step}))
    (tmp_path / "a" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (tmp_path / "a" / RECORD).write_text(record)
    return run


def test_a_whole_record_is_left_alone(tmp_path: Path) -> None:
    mend(a_run(tmp_path, '{"a": 1}', 2, 4))
    assert (tmp_path / "a" / RECORD).read_text() == '{"a": 1}'


@pytest.mark.parametrize(("steps", "chosen"), [((2,), 2), ((2, 4), 2), ((2, 4, 6), 4)])
def test_the_last_but_one_is_surely_whole(tmp_path: Path, steps: tuple[int, ...], chosen: int) -> None:
    mend(a_run(tmp_path, '{"checkpoint_res', *steps))
    record = json.loads((tmp_path / "a" / RECORD).read_text())
    assert record["latest_checkpoint_result"]["checkpoint_dir_name"] == f"step_{chosen:07d}"


def test_without_a_checkpoint_there_is_no_record(tmp_path: Path) -> None:
    mend(a_run(tmp_path, ""))
    assert not (tmp_path / "a" / RECORD).exists()


def test_the_newest_checkpoint_has_a_name(tmp_path: Path) -> None:
    run = a_run(tmp_path, "{torn", 2, 4)
    assert newest(run) is None
    mend(run)
    assert newest(run) == "step_0000002"
