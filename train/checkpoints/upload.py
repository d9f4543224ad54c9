"""Uploads checkpoints from a worker's disk to the run's folder while training goes on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode

from asr.io.unretryable import GO_ON, writing

STATE = "whisperfleet.json"  # what of a checkpoint is ours: the totals and evaluations of the run by then

THEN = f"{GO_ON} from the last checkpoint"  # once a person has mended what was in the way

Copy = Callable[[Checkpoint, str], Checkpoint]


def persist(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Copy a local checkpoint into the run's folder, wherever that is, as Ray Train itself would."""
    return ray.train.get_context().get_storage().persist_current_checkpoint(checkpoint, name)


class CheckpointUploads:
    """Reports checkpoints to Ray Train, which knows of one only when it is whole in the run's folder.

    One is on its way at a time. A report waits for the one before it, so that no more than two local copies are on
    disk, and training stands still only where an upload takes longer than the steps between two checkpoints.
    """

    def __init__(self, copy: Copy = persist) -> None:
        self._copy = copy
        self._pending: dict[str, threading.Event] = {}

    def report(
        self,
        metrics: dict[str, object],
        folder: Path | None,
        name: str,
        validate: bool = False,
        before: Callable[[], object] | None = None,
    ) -> None:
        """Report a checkpoint under ``name``; every worker calls this, with the ``folder`` that it uploads, or None.

        ``before`` runs in the background ahead of the copy. The folder is deleted after it. ``validate`` asks for
        the validation that the trainer was made with.
        """
        self.wait()
        if folder is not None and _uploads_at_all():
            self._pending[name] = threading.Event()

        def copy(checkpoint: Checkpoint, name: str) -> Checkpoint:
            try:
                if before is not None:
                    before()
                with writing(_storage_path(), f"a checkpoint of {_bytes(checkpoint.path) / 1e6:,.1f} MB", THEN):
                    whole = self._copy(checkpoint, name)
                shutil.rmtree(checkpoint.path)  # here and not by Ray, so that it is gone when the next one is reported
                return whole
            finally:
                self._pending[name].set()

        ray.train.report(
            metrics,
            checkpoint=Checkpoint.from_directory(folder) if folder is not None else None,
            checkpoint_dir_name=name,
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=False,
            checkpoint_upload_fn=copy,
            validation=validate,
        )

    def wait(self) -> None:
        """Return when no upload of this worker is under way."""
        for pending in self._pending.values():
            pending.wait()
        self._pending.clear()


def _storage_path() -> str:
    return str(ray.train.get_context().get_storage().experiment_fs_path)


def _bytes(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _uploads_at_all() -> bool:
    """Return whether Ray Train is more than its local mode, which takes note of a checkpoint and leaves it there."""
    try:
        ray.train.get_context().get_storage()
    except NotImplementedError:
        return False
    return True
