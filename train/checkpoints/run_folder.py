"""Folder of a run, local or at an address: its configuration, its checkpoints and its results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import ray.train

from asr.config import current_names
from asr.data.manifest import write_quarantine
from asr.errors import UserError
from asr.io import storage, transfer
from asr.io.cache import complete_or_absent
from asr.models.artifact import CARD
from asr.places import as_moved
from asr.utterance import Quarantined
from cluster.launch import JOB, STORAGE
from train.config import TrainConfig

CHECKPOINTS = "checkpoints"  # Ray Train's own: it keeps what it needs to go on there
_RECORD = "run.json"  # what the run was started with
# What may change between two starts of a run: where it runs and who watches, not what is learnt from what.
_FREE = ("run", "workers", "data", "evaluation", "tracking")


@dataclass(frozen=True)
class RunFolder:
    """``<run.folder>/<run.name>``: ``uri`` is an absolute path, or an address that ``asr.io.storage`` opens."""

    uri: str

    @classmethod
    def of(cls, config: TrainConfig) -> RunFolder:
        """Return the folder of a run, which need not be there yet. UserError where it would be lost with a job."""
        uri = storage.join(_lasting(config.run.folder), config.run.name)
        return cls(uri if storage.is_remote(uri) else str(Path(uri).resolve()))

    def file(self, *names: str) -> str:
        """Return the URI of a file in the folder."""
        return storage.join(self.uri, *names)

    @property
    def artifact(self) -> str:
        """The path of the run's artifact, which may not exist yet."""
        return self.file("artifact")

    def require_unfinished(self) -> None:
        """Raise UserError where the run has its artifact, or something else is in the artifact's way."""
        if storage.exists(self.file("artifact", CARD)):
            raise UserError(
                f"{self.uri}: this run is finished", "choose another run.name, or delete the folder to train anew"
            )
        if not storage.is_remote(self.uri) and storage.exists(self.artifact):
            raise UserError(f"{self.artifact}: in the way of this run's artifact", "it has no card: delete it")

    def claim(self, config: TrainConfig, data: str, fixed_workers: int | None) -> None:
        """Record what the run is started with, or raise UserError where it was started with something else.

        ``data`` is the fingerprint of the training data, ``fixed_workers`` the number of workers where it has to stay
        what it is, as with DeepSpeed's sharded checkpoints.
        """
        settings = config.model_dump(mode="json", exclude=set(_FREE))
        # Seen from here: what a person wrote, and what stays the same where all of it is moved to another machine.
        seen = as_moved(config).model_dump(mode="json", exclude=set(_FREE))
        record: dict[str, object] = {"settings": settings, "seen": seen, "data": data, "workers": fixed_workers}
        path = self.file(_RECORD)
        if not storage.exists(path):
            storage.write_text(path, json.dumps(record, indent=2))
            return
        earlier = json.loads(storage.read_text(path))
        before, _ = current_names(TrainConfig, earlier["settings"])
        before_seen, _ = current_names(TrainConfig, earlier.get("seen", earlier["settings"]))
        changed = [key for key in settings if before.get(key) != settings[key] and before_seen.get(key) != seen[key]]
        changed += ["data.train"] if earlier["data"] != data else []
        if not changed and earlier.get("workers") != fixed_workers:
            raise UserError(
                f"{self.uri}: parallelism={config.parallelism} cannot go on with {fixed_workers} workers, "
                f"its checkpoints are in {earlier.get('workers')} shards",
                f"set workers.count={earlier.get('workers')}, or choose another run.name",
            )
        if changed:
            raise UserError(
                f"{self.uri}: this run was started with other settings: {', '.join(changed)}",
                "choose another run.name, or delete the folder to train anew",
            )

    def run_config(self, **settings: object) -> ray.train.RunConfig:
        """Return Ray Train's configuration of a run that keeps its checkpoints here, and goes on from the last one."""
        filesystem, path = storage.resolve(self.uri)
        return ray.train.RunConfig(name=CHECKPOINTS, storage_path=path, storage_filesystem=filesystem, **settings)

    def write_quarantine(self, rows: list[Quarantined]) -> None:
        """Write the table of the utterances that could not be used, ``quarantine.parquet``."""
        with TemporaryDirectory() as scratch:
            table = Path(scratch, "quarantine.parquet")
            write_quarantine(table, rows)
            storage.write_bytes(self.file(table.name), table.read_bytes())

    @contextmanager
    def artifact_draft(self) -> Iterator[Path]:
        """Yield an empty local folder that becomes the artifact if the block succeeds; its card arrives last."""
        if not storage.is_remote(self.uri):
            with complete_or_absent(Path(self.artifact)) as draft:
                yield draft
            return
        with TemporaryDirectory() as scratch:
            yield Path(scratch)
            transfer.upload(Path(scratch), self.artifact, last=CARD)


def _lasting(folder: str) -> str:
    """Return a relative folder as seen from WHISPERFLEET_STORAGE. In a job there has to be one: its own folder goes."""
    if storage.is_remote(folder) or os.path.isabs(storage.local_path(folder)):
        return folder
    uri = os.environ.get(STORAGE, "")
    if os.environ.get(JOB) and not uri:
        raise UserError(
            f"run.folder={folder} is relative, and what a job writes beside its code is lost with it",
            "submit with --storage, a folder that all nodes see or an address such as s3://bucket/speech",
        )
    return storage.join(uri, folder) if uri else folder
