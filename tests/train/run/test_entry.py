from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

import train.run.worker
from asr.config import resolve
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig
from train.run import supervisor
from train.run.entry import enter


@pytest.mark.medium
def test_ray_trains_controller_need_import_nothing_of_ours_but_this() -> None:
    heavy = {"torch", "transformers", "peft", "train.run.worker"}
    code = f"import sys, train.run.entry\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("ray_cluster")
def test_the_worker_gets_the_job_that_was_put(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(train.run.worker, "train_worker", given.append)
    enter({"job": ray.put("the job"), "strategy": "lora"})
    assert given == [{"job": "the job"}]


@pytest.mark.medium
@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_only_for_qlora_is_there_bitsandbytes_and_the_imports_are_no_matter_for_the_collector(strategy: str) -> None:
    code = f"""
import gc, sys, types
from importlib.util import find_spec
import ray
from train.run.entry import enter
ray.get = lambda job: job
stub = sys.modules["train.run.worker"] = types.ModuleType("train.run.worker")
stub.train_worker = lambda given: print(find_spec("bitsandbytes") is not None, gc.get_freeze_count() > 0, given)
enter({{"job": "the job", "strategy": "{strategy}"}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{strategy == 'qlora'} True {{'job': 'the job'}}\n"


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_it_is_told_the_run_s_strategy(strategy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: dict[str, Any] = {}
    monkeypatch.setattr(supervisor, "TorchTrainer", lambda loop, **given: said.update(given))
    monkeypatch.setattr("ray.put", lambda job: job)
    config = resolve(
        TrainConfig, None, ["base=none", "data.train=t.jsonl", f"run.folder={tmp_path}", "workers.gpu=true"]
    )
    changed = config.value.model_copy(update={"strategy": strategy})
    job = SimpleNamespace(config=changed, scoring=None)
    supervisor._trainer(RunFolder.of(changed), job)  # type: ignore[arg-type]
    assert said["train_loop_config"] == {"job": job, "strategy": strategy}
