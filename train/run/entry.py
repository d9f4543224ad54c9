"""Entry point of a worker. Ray Train's controller imports it only to start workers: so it imports nothing but Ray."""

from __future__ import annotations

import ray

from asr.imports import lasting_imports
from asr.parsed import JsonObject


def enter(loop_config: JsonObject) -> None:
    """Run ``train.run.worker.train_worker``. ``job`` refers to its ``TrainJob``: the controller need not read it."""
    with lasting_imports():
        from train.trainer.strategy import leave_out_unless_quantised

        leave_out_unless_quantised(loop_config["strategy"])
        from train.run.worker import train_worker

    train_worker({"job": ray.get(loop_config["job"])})
