"""A model that is to be compared: found, verified and identified before anything of it is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from asr.audio.features import Context
from asr.errors import UserError
from asr.io.digest import sha256
from asr.models.artifact import CARD, adapted_base, fetched, is_artifact, verified_card, whole
from asr.models.checkpoint import find_checkpoint
from asr.models.family import load_processor
from asr.models.processor import Processor

_SMALL = {".json", ".txt", ".model", ".jinja"}  # files beside the weights, by which a model is decoded


@dataclass(frozen=True)
class Candidate:
    """A model by name, and the context that it is asked in (None: its own).

    ``identity`` changes with its weights and with every file that decoding reads. ``digest`` is what people are told:
    ``sha256:`` of an artifact's identity, as its base's weights are those of others too, or of a checkpoint's weights.
    ``language`` is an artifact's.
    """

    name: str
    context: Context | None
    identity: str
    digest: str
    processor: Processor
    language: str | None


def candidates(names: Sequence[str], context: Context | None) -> list[Candidate]:
    """Return the models of these names, the same one twice where it is named twice.

    Weights are verified, but not loaded. Raises UserError, which names the model, where one cannot be had.
    """
    found: dict[str, Candidate] = {}
    for name in names:
        if name not in found:
            try:
                found[name] = candidate(name, context)
            except UserError as error:
                raise named(name, error) from None
    return [found[name] for name in names]


def candidate(name: str, context: Context | None) -> Candidate:
    """Return the model of a name. Raises UserError where it is missing, damaged or incomplete."""
    folder = fetched(name)
    is_own = is_artifact(folder)
    if is_own:
        card = verified_card(folder)
        checkpoint = whole(name, folder, card) if card.weights == "full" else adapted_base(folder, card, name)
        told, language = [sha256(folder / CARD), checkpoint.digest], card.language
    else:
        checkpoint = find_checkpoint(name)
        told, language = [checkpoint.digest], checkpoint.language
    for weights in (checkpoint.weights, folder):  # of an adapter these are two
        _require_whole(weights)
    files = sorted(path for path in checkpoint.folder.iterdir() if path.suffix in _SMALL)
    told += [f"{path.name} {sha256(path)}" for path in files]
    identity = hashlib.sha256("\n".join(told).encode()).hexdigest()
    digest = f"sha256:{identity}" if is_own else checkpoint.digest
    return Candidate(name, context, identity, digest, load_processor(checkpoint), language)


def named(name: str, error: UserError) -> UserError:
    """Return an error about a model that says which one."""
    return error if name in error.message else UserError(f"{name}: {error.message}", error.hint)


def _require_whole(folder: Path) -> None:
    """Raise UserError for a file of weights that is shorter than its own header says: no digest of it is known."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np"):
                pass
        except SafetensorError as error:
            raise UserError(f"{path}: damaged or not complete: {error}", "copy or fetch it anew") from None
