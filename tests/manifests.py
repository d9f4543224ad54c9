"""Manifests with their audio beside them, as ``whisperfleet data prepare`` leaves them, and its quarantine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from asr.data.manifest import write_manifest
from asr.utterance import Quarantined, Utterance

_QUARANTINE = pa.schema([("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


def write_beside(path: Path, clips: Iterable[Utterance]) -> list[Utterance]:
    """Write a manifest whose rows name files in its own folder; return its rows. What is not there stays not there."""
    rows = beside(path.parent, clips)
    write_manifest(path, rows)
    return rows


def beside(folder: Path, clips: Iterable[Utterance]) -> list[Utterance]:
    """Return clips whose audio is in ``folder/audio``, where it is copied to."""
    return [replace(clip, audio=str(_copied(folder / "audio", Path(str(clip.audio))))) for clip in clips]


def _copied(folder: Path, audio: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    here = folder / f"{audio.parent.name}-{audio.name}"  # two folders may hold files of one name
    if audio.is_file() and not here.exists():
        shutil.copyfile(audio, here)
    return here


def read_quarantine(path: Path) -> list[Quarantined]:
    """Return the rows of a table that ``write_quarantine`` wrote."""
    return [Quarantined(**row) for row in pq.read_table(path, schema=_QUARANTINE).to_pylist()]
