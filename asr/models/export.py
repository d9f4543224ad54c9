"""Artifacts and checkpoints written for other software: a plain transformers folder, or one for a family's fast engine.

An adapter is merged into its base. Of an artifact, what is known travels along: transformers' folder is an artifact
itself, the others have a record with the card in it.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from asr.config import Section
from asr.errors import UserError
from asr.io import storage
from asr.io.cache import cache_root, complete_or_absent, prune, use
from asr.io.digest import folder_digests, sha256, verify
from asr.models.artifact import Card, complete, fetched, is_artifact, load_model, read_card
from asr.models.checkpoint import find_checkpoint
from asr.models.export_formats import FastEngineName, Format, Quantization
from asr.models.family import Family, SpeechModel, family_named, family_of
from asr.models.heard_speech import packed_s
from asr.models.model_card import CURVE

if TYPE_CHECKING:
    import torch

RECORD = "export.json"
MODEL: dict[FastEngineName, str] = {"ctranslate2": "model.bin", "onnx": "model.onnx"}
"""File of the network in each engine's folder."""
_SETTINGS = ("*.json", "*.arpa")
_FLOATS = ("float32", "float16")
_VERSION = 1  # counts the changes to what is written for fast engines: an older cache is not used


class Export(Section):
    """Description of an export for a fast engine: its content and its source."""

    format_version: Literal[1] = 1
    name: str
    """As it was asked for."""
    digest: str
    """``sha256:`` over all that the export depends on: weights, processor, generation config, what the card says."""
    quantization: Quantization
    card: Card | None
    """The artifact's; None for a checkpoint."""
    files: dict[str, str]
    """SHA-256 of each file but this record."""


@dataclass(frozen=True)
class _Source:
    """An artifact or checkpoint to export; ``folder`` holds its processor and generation config."""

    name: str
    folder: Path
    digest: str
    card: Card | None

    @property
    def family(self) -> Family:
        """Its family."""
        return family_named(self.card.family) if self.card else family_of(self.folder)


def export(name: str, target: Path, form: Format, quantization: Quantization | None = None) -> None:
    """Write what ``name`` names to the new folder ``target``, which is complete or absent afterwards.

    Without ``quantization``: float32 for transformers, int8 for the others. Raises UserError where the model is
    missing or damaged, the target exists, or the format has no such quantization or is another family's.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError(f"{target} exists already", "name a new folder")
    if form == "transformers" and (quantization or "float32") not in _FLOATS:
        raise UserError(
            f"quantization={quantization} is not for transformers",
            f"{' or '.join(_FLOATS)}, or format {' or '.join(MODEL)}",
        )
    source = _find(name)
    if form not in ("transformers", source.family.fast_engine):
        what = f"'{name}' is of the family {source.family.name}, which is not exported for {form}"
        raise UserError(what, f"use --format transformers or {source.family.fast_engine}")
    with complete_or_absent(target) as draft:
        if form == "transformers":
            _write_transformers(source, draft, _torch_type(quantization or "float32"))
        else:
            _write_fast(source, draft, quantization or "int8")


def exported(name: str, quantization: Quantization) -> Path:
    """Return the folder for the fast engine of what ``name`` names, written to the cache where it is not there yet.

    It stays while this process does. Exports that have not been used for a month are deleted meanwhile.
    """
    source = _find(name)
    key = source.digest.removeprefix("sha256:")[:16]
    folder = cache_root() / "exports" / f"{key}-{quantization}-v{_VERSION}"
    while not use(folder):
        with complete_or_absent(folder) as draft:
            _write_fast(source, draft, quantization)
    prune(folder.parent)
    return folder


def engine_of_export(name: str) -> FastEngineName | None:
    """Return the engine that reads the local folder ``name`` as it is; None where it is none's.

    CTranslate2's may come from anybody; ONNX files of others have inputs that are not known here.
    """
    if storage.is_remote(name):
        return None
    folder = Path(storage.local_path(name)).expanduser()
    if is_artifact(folder):
        return None
    if (folder / MODEL["ctranslate2"]).is_file():
        return "ctranslate2"
    return "onnx" if (folder / MODEL["onnx"]).is_file() and (folder / RECORD).is_file() else None


def read_export(folder: Path) -> Export | None:
    """Return the record of a folder after comparing its files with their digests; None where others wrote it.

    Raises UserError where a file differs or the record cannot be read.
    """
    record = export_record(folder)
    if record:
        verify(folder, record.files, _remedy(folder))
    return record


def export_record(folder: Path) -> Export | None:
    """Return the record of a folder as it is written there; None where others wrote the folder.

    Raises UserError where it cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return Export.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: {error.errors()[0]['msg']}", _remedy(folder)) from None


def _remedy(folder: Path) -> str:
    return f"delete {folder} and export again"


def _find(name: str) -> _Source:
    folder = fetched(name)
    if is_artifact(folder):
        card = read_card(folder)
        told = [card.base.digest, *card.files.values(), str((card.language, card.task, card.short_context))]
        told += [str(packed)] if (packed := packed_s(card.config)) else []
        return _Source(name, folder, _digest(told), card)
    checkpoint = find_checkpoint(name)
    settings = sorted(path for pattern in _SETTINGS for path in checkpoint.folder.glob(pattern))
    told = [checkpoint.digest, *(f"{path.name} {sha256(path)}" for path in settings)]
    return _Source(name, checkpoint.folder, _digest(told), None)


def _digest(told: list[str]) -> str:
    return f"sha256:{hashlib.sha256(chr(10).join(told).encode()).hexdigest()}"


def _load(source: _Source, dtype: torch.dtype) -> SpeechModel:
    model = load_model(source.name, "cpu", dtype)
    return model.family.with_settings(model, source.folder)


def _torch_type(name: Quantization) -> torch.dtype:
    import torch  # a process that only reads what a folder tells needs none

    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _write_transformers(source: _Source, draft: Path, dtype: torch.dtype) -> None:
    model = _load(source, dtype)
    model.network.save_pretrained(draft)
    model.family.settle(draft)
    for weights in draft.glob("*.safetensors"):
        shutil.copymode(draft / "config.json", weights)  # safetensors leaves 0600, whatever the umask
    model.processor.save_inputs(draft)
    if source.card is None:
        return
    if (source.folder / CURVE).is_file():
        shutil.copyfile(source.folder / CURVE, draft / CURVE)
    complete(draft, source.card.model_copy(update={"weights": "full", "files": {}}))


def _write_fast(source: _Source, draft: Path, quantization: Quantization) -> None:
    model = _load(source, _torch_type("float32"))
    model.family.write_fast(model, draft, quantization)
    model.processor.save_inputs(draft)
    record = Export(
        name=source.name,
        digest=source.digest,
        quantization=quantization,
        card=source.card,
        files=folder_digests(draft),
    )
    (draft / RECORD).write_text(record.model_dump_json(indent=2), encoding="utf-8")
