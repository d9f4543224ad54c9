"""Inspects an artifact before it is loaded: digests, card, fingerprint and size."""

from __future__ import annotations

from pathlib import Path

from asr.errors import UserError
from asr.io import storage
from asr.io.digest import sha256
from asr.models.artifact import CARD, Card, fetched, find_base, is_artifact, read_card, verified_card
from asr.models.checkpoint import find_checkpoint
from asr.models.export import MODEL, RECORD, engine_of_export, read_export
from asr.printable import printable
from serve.models.version import ArtifactInfo, Version

_CALLED = {"ctranslate2": "CTranslate2", "onnx": "ONNX Runtime"}
_WEIGHTS = ("*.safetensors", *MODEL.values(), "*.onnx.data")


def inspect(artifact: str) -> ArtifactInfo:
    """Verify all that can be verified without loading it. Raises UserError naming the first thing that is wrong."""
    try:
        return _inspected(artifact)
    except OSError as error:  # a name that is too long, a folder that may not be read: whoever named it must act
        what = f"{printable(artifact)} cannot be read: {error.strerror or 'it is not there'}"
        raise UserError(what, "name an artifact, a checkpoint or an export") from None


def _inspected(artifact: str) -> ArtifactInfo:
    if engine := engine_of_export(artifact):
        record = read_export(_local(artifact))
        made = f"of {record.name}, {record.quantization}" if record else "that was made elsewhere, without a record"
        return ArtifactInfo(_version(artifact), f"an export for {_CALLED[engine]} {made}")
    folder = fetched(artifact)
    if not is_artifact(folder):
        return ArtifactInfo(_version(artifact), f"a checkpoint without a card, {find_checkpoint(artifact).digest[:19]}")
    card = verified_card(folder)
    if card.weights == "adapter":
        find_base(folder, card, artifact)
    return ArtifactInfo(_version(artifact), _summary(card))


def fingerprint(artifact: str) -> str:
    """Return twelve hexadecimal digits that change with the files. Raises UserError where there are none.

    Of an artifact or export its card or record, which holds the digests of the rest; of anything else the weights.
    """
    if engine := engine_of_export(artifact):
        folder = _local(artifact)
        return sha256(next(path for path in (folder / RECORD, folder / MODEL[engine]) if path.is_file()))[:12]
    folder = fetched(artifact)
    if is_artifact(folder):
        read_card(folder)
        return sha256(folder / CARD)[:12]
    return find_checkpoint(artifact).digest.removeprefix("sha256:")[:12]


def weights_bytes(artifact: str, with_base: bool = True) -> int:
    """Return the bytes of the files with its weights: an estimate of what it takes. An adapter needs its base too."""
    if engine_of_export(artifact):
        return _size(_local(artifact))
    folder = fetched(artifact)
    if not is_artifact(folder):
        return _size(folder if folder.is_dir() else find_checkpoint(artifact).folder)
    card = read_card(folder)
    base = find_base(folder, card, artifact).folder if with_base and card.weights == "adapter" else None
    return _size(folder) + (_size(base) if base else 0)


def _version(artifact: str) -> Version:
    return Version(artifact, fingerprint(artifact))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for pattern in _WEIGHTS for path in folder.glob(pattern))


def _local(artifact: str) -> Path:
    return Path(storage.local_path(artifact)).expanduser()


def _summary(card: Card) -> str:
    kind = "an adapter for" if card.weights == "adapter" else "a full fine-tune of"
    rates = [f"{one['label']} {one['wer']['rate']:.1%}" for one in card.evaluations if "wer" in one]
    scored = f", WER on its card: {', '.join(rates)}" if rates else ", no WER on its card"
    return f"{kind} {card.base.name}, {card.language or 'any language'}{scored}"
