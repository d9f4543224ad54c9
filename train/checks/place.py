"""Steps of `check` about the run's machines, their kind and number, and its checkpoint folder."""

from __future__ import annotations

import importlib.util
import shutil
import uuid

import ray
import torch

from asr.errors import UserError
from asr.io import storage
from cluster.scaling import require_workers
from cluster.session import ray_session
from train.checkpoints.run_folder import RunFolder
from train.checks.subject import CheckOutcome, Subject
from train.evaluation.schedule import choose_async
from train.trainer.deepspeed import derive
from train.trainer.strategy import require


def machine(subject: Subject) -> CheckOutcome:
    """Strategy, parallelism and precision run on the machines asked for, with the packages that are installed."""
    config = subject.config
    require(config.strategy, config.workers.gpu)
    if config.parallelism != "ddp" and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"parallelism={config.parallelism} needs deepspeed, which is not installed",
            "pip install 'whisperfleet[deepspeed]'",
        )
    derive(config, config.workers.most)
    config.tracking.require()
    where = "GPU" if config.workers.gpu else "CPU"
    detail = f"{config.strategy}, {config.parallelism}, {config.precision} on {where}"
    if not config.workers.gpu or torch.cuda.is_available():
        if config.workers.gpu and config.precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise UserError(f"{torch.cuda.get_device_name()} has no bf16", "set precision=fp16")
        return CheckOutcome("ok", detail)
    return CheckOutcome("ok", f"{detail}; no GPU on this machine, so the workers' own were not checked")


def folder(subject: Subject) -> CheckOutcome:
    """A file can be written where the checkpoints go, and no finished run is in the way."""
    run = RunFolder.of(subject.config)
    run.require_unfinished()
    probe, before = run.file(f".check-{uuid.uuid4().hex}"), _missing(run.uri)
    storage.write_text(probe, "whisperfleet check")
    try:
        storage.read_text(probe)
    finally:
        filesystem, path = storage.resolve(probe)
        filesystem.delete_file(path)
        if before:
            filesystem, path = storage.resolve(before)
            filesystem.delete_dir(path)
    free = "" if storage.is_remote(run.uri) else f", {shutil.disk_usage(_existing(run.uri)).free / 1e9:.0f} GB free"
    return CheckOutcome("ok", f"{run.uri}{free}")


def _missing(uri: str) -> str:
    """Return the topmost missing folder on the way to a local path, or "" if all exist."""
    if storage.is_remote(uri) or storage.exists(uri):
        return ""
    parent = storage.parent(uri)
    return _missing(parent) or uri


def _existing(uri: str) -> str:
    return uri if storage.exists(uri) else _existing(storage.parent(uri))


def cluster(subject: Subject) -> CheckOutcome:
    """The cluster has the workers' CPUs and GPUs."""
    workers = subject.config.workers
    with ray_session(subject.address):
        require_workers(workers)
        if subject.config.data.validation is not None:
            choose_async(subject.config.evaluation.mode, workers, ray.cluster_resources())
    each = f"{workers.threads} CPUs" + (" and a GPU" if workers.gpu else "")
    where = f"cluster {subject.address}" if subject.address else "this machine"
    return CheckOutcome("ok", f"{where} has {workers.least} x {each}")
