"""Repairs Ray Train's record of a run's checkpoints if the driver died while it was written."""

from __future__ import annotations

import json

from ray.train.v2._internal.execution.checkpoint import checkpoint_manager  # pins keep it where it is

from asr.io import storage
from train import console
from train.checkpoints.run_folder import CHECKPOINTS, RunFolder
from train.checkpoints.upload import STATE

_SNAPSHOT = "checkpoint_manager_snapshot.json"


def mend(run: RunFolder) -> None:
    """Make the record of a run readable: Ray Train (2.60) writes it in place, and cannot go on from half of one.

    It then names the last checkpoint but one, which is whole, because the last one may still have been on its way.
    Where there is only one, that one was whole when the record was first written.
    """
    uri = run.file(CHECKPOINTS, _SNAPSHOT)
    if not storage.exists(uri) or _readable(uri):
        return
    folders = sorted(name for name in storage.list_folders(run.file(CHECKPOINTS)) if name.startswith("step_"))
    whole = [name for name in folders if storage.exists(run.file(CHECKPOINTS, name, STATE))]
    if not whole:
        filesystem, path = storage.resolve(uri)
        filesystem.delete_file(path)
        console.say(f"{uri} is damaged and there is no checkpoint: the run starts anew")
        return
    name = whole[-2:][0]
    totals = json.loads(storage.read_text(run.file(CHECKPOINTS, name, STATE)))
    result = checkpoint_manager._TrainingResultState(checkpoint_dir_name=name, metrics={"step": totals["step"]})
    record = checkpoint_manager._CheckpointManagerState(
        checkpoint_results=[result],
        checkpoint_report_indices=[0],
        latest_checkpoint_result=result,
        pending_training_results=[],
        pending_validation_specs=[],
        current_report_index=1,
        validated_checkpoint_dir_names=[],
        timed_out_validation_checkpoint_dir_names=[],
        failed_validation_checkpoint_dir_names=[],
    )
    storage.write_text(uri, record.model_dump_json())
    console.say(f"{uri} was damaged: the run goes on from {name}")


def newest(run: RunFolder) -> str | None:
    """Return the name of the run's last checkpoint, or None before the first."""
    uri = run.file(CHECKPOINTS, _SNAPSHOT)
    if not storage.exists(uri) or not _readable(uri):
        return None
    latest = json.loads(storage.read_text(uri)).get("latest_checkpoint_result")
    return str(latest["checkpoint_dir_name"]) if latest else None


def _readable(uri: str) -> bool:
    try:
        json.loads(storage.read_text(uri))
    except ValueError:
        return False
    return True
