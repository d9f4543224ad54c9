from __future__ import annotations

import subprocess
import sys

import pytest
import ray

import train.worker
from train.run.entry import enter


def test_ray_trains_controller_need_import_nothing_of_ours_but_this() -> None:
    heavy = {"torch", "transformers", "peft", "train.worker"}
    code = f"import sys, train.run.entry\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("ray_cluster")
def test_the_worker_gets_the_job_that_was_put(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(train.worker, "train_worker", given.append)
    enter({"job": ray.put("the job"), "strategy": "lora"})
    assert given == [{"job": "the job"}]
