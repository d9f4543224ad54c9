"""The best weights of a run by word error rate, kept apart from the checkpoints that come and go."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import ray.train

from asr.io import storage, transfer
from asr.parsed import JsonObject
from train.checkpoints.upload import STATE

BEST = "best"  # the folder of these weights, in that of the run
RECORD = "best.json"  # names the folder of the weights; written after them, so it never points at a half of them
_WEIGHTS = (STATE, "config.json", "generation_config.json", "adapter_config.json", "*.safetensors", "*.index.json")


@dataclass(frozen=True)
class Best:
    """The weights that are kept: of this step, with this WER on the validation sample and its 95 % interval."""

    step: int
    wer: float
    low: float
    high: float

    @property
    def folder(self) -> str:
        """The name of their folder."""
        return f"step_{self.step:07d}"


def keep(uri: str, source: Path, step: int, summary: JsonObject) -> bool:
    """Keep the weights in the checkpoint ``source`` at ``uri`` if none with as low a WER are there already.

    Those that were there are deleted once the new ones are whole. Returns whether they were replaced.
    """
    score = summary["wer"]
    new, old = Best(step, float(score["rate"]), float(score["low"]), float(score["high"])), find(uri)
    # A step that is trained again after a crash is the same step again: what it left the first time may be half a copy.
    if old is not None and old.step != step and old.wer <= new.wer:
        return False
    with TemporaryDirectory() as scratch:
        for pattern in _WEIGHTS:
            for path in Path(source).resolve().glob(pattern):
                Path(scratch, path.name).symlink_to(path)
        transfer.upload(Path(scratch), storage.join(uri, new.folder), last=STATE)
    storage.write_text(storage.join(uri, RECORD), json.dumps(asdict(new)))
    for name in storage.list_folders(uri):
        if name != new.folder:
            filesystem, old_folder = storage.resolve(storage.join(uri, name))
            filesystem.delete_dir(old_folder)
    return True


def find(uri: str) -> Best | None:
    """Return what is kept whole at ``uri``, or None."""
    record = storage.join(uri, RECORD)
    if not storage.exists(record):
        return None
    best = Best(**json.loads(storage.read_text(record)))
    return best if storage.exists(storage.join(uri, best.folder, STATE)) else None


def checkpoint(uri: str) -> ray.train.Checkpoint | None:
    """Return the weights that are kept at ``uri`` as a checkpoint without optimiser, or None."""
    best = find(uri)
    if best is None:
        return None
    filesystem, path = storage.resolve(storage.join(uri, best.folder))
    return ray.train.Checkpoint(path, filesystem)
