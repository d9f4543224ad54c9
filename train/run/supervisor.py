"""Supervises a run's attempts: restarts from the last checkpoint if a worker died, not if a person must act."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, ValidationConfig
from ray.train.torch import TorchTrainer

from asr.io.unretryable import unretryable
from cluster.scaling import scaling_config
from train import console
from train.checkpoints.ray_snapshot import mend, newest
from train.checkpoints.run_folder import RunFolder
from train.checkpoints.upload import THEN
from train.evaluation.evaluator import AsyncValidation
from train.run.entry import enter
from train.run.worker import TrainJob


def train_to_end(run: RunFolder, job: TrainJob) -> Checkpoint:
    """Train, and return the last checkpoint. If a worker dies the run restarts, but a user error is not tried again.

    Failures are counted from the newest checkpoint on: on preemptible nodes, a long run may have any number of them.
    """
    mend(run)
    failures = 0
    while True:
        before = newest(run)
        try:
            with _interruptible():
                return _trainer(run, job).fit().checkpoint
        except ray.train.TrainingFailedError as error:
            if mistake := unretryable(error, run.uri, then=THEN):
                raise mistake from None
            if not isinstance(error, ray.train.WorkerGroupError):
                raise
            failures = failures + 1 if newest(run) == before else 1
            if failures > job.config.workers.max_failures:
                raise
            console.say(f"{_lost(error)}: the run goes on from its last checkpoint")


def _trainer(run: RunFolder, job: TrainJob) -> TorchTrainer:
    config = job.config
    return TorchTrainer(
        enter,
        train_loop_config={"job": ray.put(job), "strategy": config.strategy},
        scaling_config=scaling_config(config.workers),
        validation_config=_validation(job),
        run_config=run.run_config(
            failure_config=FailureConfig(max_failures=0),  # counted here: Ray would try again whatever the error is
            checkpoint_config=CheckpointConfig(num_to_keep=config.run.keep_checkpoints),
        ),
    )


def _validation(job: TrainJob) -> ValidationConfig | None:
    """Return Ray Train's settings for asynchronous validation: in a task with the resources of one worker."""
    workers = job.config.workers
    if job.scoring is None or not job.scoring.is_async:
        return None
    is_async = AsyncValidation(job.scoring, job.initial, workers.threads, job.progress)
    return ValidationConfig(is_async, ray_remote_kwargs={"num_cpus": workers.threads, "num_gpus": int(workers.gpu)})


def _lost(error: ray.train.WorkerGroupError) -> str:
    """Return one line on the worker that died and the reason. If its node is gone, Ray names the node."""
    rank, failure = next(iter(sorted(error.worker_failures.items())), (0, error))
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    ranks = ", ".join(str(one) for one in sorted(error.worker_failures)) or str(rank)
    return f"worker {ranks} died ({type(failure).__name__}: {lines[-1] if lines else ''})"


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt: Ray Train's handler stops the workers, but then exits mutely, and stays."""
    if threading.current_thread() is not threading.main_thread():  # Ray leaves the signal alone
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, handler)
