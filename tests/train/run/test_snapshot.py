from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import ray.train

from asr.config import resolve
from tests.train.run.test_attempts import workers
from tests.train.runs import STEPS, Runs, finish
from train.config import TrainConfig
from train.fit import fit
from train.run.folder import RunFolder
from train.run.snapshot import mend, newest
from train.run.upload import STATE
from train.watching.progress import Progress

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


@pytest.mark.slow
def test_a_driver_that_died_while_ray_wrote_its_record_goes_on(ray_cluster: None, runs: Runs) -> None:
    config = runs.config("torn", "workers.max_failures=0")

    def kill(now: Progress) -> None:
        if now.step >= 5:
            random.choice(workers()).kill()

    with pytest.raises(ray.train.WorkerGroupError):
        fit(config, kill)
    record = runs.folder / "torn" / RECORD
    record.write_bytes(record.read_bytes()[:-30])
    done = finish(config)
    assert done.progress[0].resumed_at in (2, 4)
    assert done.progress[-1].step == STEPS
