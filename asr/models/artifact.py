"""The artifact: the folder that training hands to serving.

A folder with weights (a PEFT adapter, or a whole model), tokenizer, feature extractor, generation config, a README for
people and ``card.json`` for machines. The card is written last: its presence means that the folder is complete, and its
digests that the files are what training wrote.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError

from asr.audio.filenames import is_litter
from asr.config import Section
from asr.errors import UserError, one_line
from asr.io import storage, transfer
from asr.io.cache import cache_root, complete_or_absent
from asr.io.digest import folder_digests, verify
from asr.models import adapter_config
from asr.models.checkpoint import ARTIFACT_MARKS, Checkpoint, find_checkpoint
from asr.models.family import WHISPER, SpeechModel, family_named, family_of, load_checkpoint
from asr.models.head import NETWORK, on_base
from asr.models.heard_speech import speech_s
from asr.models.model_card import readme
from asr.parsed import JsonObject
from asr.transcript import Task

if TYPE_CHECKING:
    import torch

CARD = "card.json"
README = "README.md"
MAX_GENERATIONS = 32  # of artifacts on artifacts
_finding: ContextVar[tuple[Path, ...]] = ContextVar("_finding", default=())  # whose bases are looked for
PARENT = "parent"  # the folder, in an adapter's artifact, of the one that it was trained on
_CARD_DRAFT = f".{CARD}"  # left behind where writing was interrupted
_WEIGHTS = {"adapter": "adapter_model.safetensors", "full": "model.safetensors"}
# Of these the environment says which host they are; what stands behind the slashes is a bucket, or an owner on the hub.
_BUCKETS, _BUCKET = frozenset({"s3", "gs", "gcs", "hf"}), re.compile(r"[\w.-]+")
_RETRAIN = "run the training again, or copy the artifact anew"


class BaseModel(Section):
    """The checkpoint that was fine-tuned."""

    name: str
    """As given in the training configuration."""
    digest: str
    """``sha256:`` of its weights. An adapter is never put on other weights than these."""


class Ancestor(Section):
    """A model in the chain of models that an artifact was made from."""

    name: str
    """As given in the training configuration that named it."""
    digest: str
    """``sha256:`` of its weights, and what they lie on."""
    fingerprint: str = ""
    """Twelve digits that change with an artifact's card; empty for a checkpoint, the first of all."""


class Card(Section):
    """The card of an artifact: its kind, what it was made from and how well it does."""

    format_version: Literal[1] = 1
    weights: Literal["adapter", "full"]
    """A PEFT adapter for the base model, or a whole model that needs no other."""
    base: BaseModel
    language: str | None
    task: Task
    short_context: bool
    """True if it was trained on clips at their own length. If not, features are padded to 30 s."""
    normaliser: str
    """The normaliser of the word error rates below."""
    data: JsonObject
    """Fingerprint, clips and seconds of the training data, and rows in quarantine."""
    config: JsonObject
    """The resolved training configuration."""
    training: JsonObject
    """Steps, seconds, audio seconds and final loss."""
    versions: dict[str, str]
    created: str
    """ISO 8601, UTC."""
    evaluations: list[JsonObject] = Field(default_factory=list)
    """Summaries of evaluations with word error rates and their intervals: before and after fine-tuning."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file but the README and this card."""
    family: str = WHISPER
    """Family of the network; see ``asr.models.family``."""
    lineage: list[Ancestor] = Field(default_factory=list)
    """Parents, if the base is an artifact itself: that one, its base, and so on to a published checkpoint."""


def fetched(name: str) -> Path:
    """Return the local folder of an artifact: the one named, or for an address (``s3://...``) a copy in the cache.

    An artifact that was trained anew at the same address has another card, and is fetched anew. Raises UserError
    where an address holds no finished artifact.
    """
    if not storage.is_remote(name):
        return Path(storage.local_path(name)).expanduser()
    card = storage.join(name, CARD)
    if not storage.exists(card):
        raise UserError(f"{name}: no artifact is there, or it was never finished: it has no {CARD}", _RETRAIN)
    key = hashlib.sha256(name.encode() + storage.read_bytes(card)).hexdigest()[:16]
    folder = cache_root() / "artifacts" / key
    if not folder.is_dir():
        with complete_or_absent(folder) as draft:
            transfer.download(name, draft)
    return folder


def is_artifact(folder: Path) -> bool:
    """Return whether a folder is, or was going to be, an artifact."""
    return any((folder / mark).is_file() for mark in ARTIFACT_MARKS)


def complete(folder: Path, card: Card) -> Card:
    """Seal a folder of finished files as an artifact: record digests, write the README, then the card."""
    card = card.model_copy(update={"files": folder_digests(folder, frozenset({CARD, _CARD_DRAFT, README}))})
    (folder / README).write_text(readme(card, folder), encoding="utf-8")
    _write_card(folder, card)
    return card


def record_evaluations(folder: Path, evaluations: Sequence[JsonObject]) -> Card:
    """Put evaluation summaries into the card and README of a complete artifact, in place of those it had."""
    card = read_card(folder).model_copy(update={"evaluations": [dict(summary) for summary in evaluations]})
    (folder / README).write_text(readme(card, folder), encoding="utf-8")
    _write_card(folder, card)
    return card


def _write_card(folder: Path, card: Card) -> None:
    draft = folder / _CARD_DRAFT
    # Earlier versions do not know these keys.
    usual = {key for key, value in (("lineage", []), ("family", WHISPER)) if getattr(card, key) == value}
    draft.write_text(card.model_dump_json(indent=2, exclude=usual), encoding="utf-8")
    draft.rename(folder / CARD)


def read_card(folder: Path) -> Card:
    """Return the card. Raises UserError where the artifact was left half-written or the card is damaged."""
    path = folder / CARD
    if not path.is_file():
        raise UserError(f"{folder}: an artifact without {CARD}: it was never finished", _RETRAIN)
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}".replace(": : ", ": "), _RETRAIN) from None


def verified_card(folder: Path) -> Card:
    """Return the card after comparing every file with its digest. Weights without one are not accepted."""
    card = read_card(folder)
    if _WEIGHTS[card.weights] not in card.files:
        raise UserError(f"{folder / CARD}: no digest of {_WEIGHTS[card.weights]}", _RETRAIN)
    if added := next((name for name in _names(folder) if name not in card.files and not _is_harmless(name)), None):
        raise UserError(f"{folder / added}: {CARD} does not list it: it could change the model", "remove it")
    verify(folder, card.files, _RETRAIN)
    if card.weights == "adapter":
        adapter_config.check(folder)
    return card


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _is_harmless(name: str) -> bool:
    """Return whether no loader reads a file: ours without a digest, and leftovers of file managers and hub tools."""
    return name in (CARD, _CARD_DRAFT, README, ".gitattributes") or is_litter(name) or name.startswith(".cache/")


def load_model(name: str, device: str = "cpu", dtype: torch.dtype | None = None) -> SpeechModel:
    """Load whatever ``name`` names: an artifact's folder or address, or a checkpoint as ``find_checkpoint`` finds it.

    An adapter is merged into its base. Raises UserError where anything is missing, damaged or does not fit together.
    """
    folder = fetched(name)
    if not is_artifact(folder):
        return load_checkpoint(find_checkpoint(name), device, dtype)
    card = verified_card(folder)
    if card.weights == "full":
        model = load_checkpoint(whole(str(folder), folder, card), device, dtype)
    else:
        model = merge_adapter(load_checkpoint(adapted_base(folder, card, name), device, dtype), folder)
    return replace(as_told(model, card), name=name)


def as_told(model: SpeechModel, card: Card) -> SpeechModel:
    """Return a model with what the card of its artifact tells of its training."""
    return replace(
        model, language=card.language, short_context=card.short_context, speech_s=speech_s(card.config, card.data)
    )


def whole(name: str, folder: Path, card: Card) -> Checkpoint:
    """Return the checkpoint that an artifact with whole weights, whose digests were verified, is in itself.

    Raises UserError where its files are not of the family that the card names.
    """
    _require_family(folder, card, folder)
    digest = f"sha256:{card.files[_WEIGHTS['full']]}"
    return Checkpoint(name, folder, digest, card.language, card.short_context, folder)


def find_base(folder: Path, card: Card, uri: str = "") -> Checkpoint:
    """Return the checkpoint that the adapter in ``folder`` was trained on.

    Where that is an adapter's artifact itself, a copy of it lies in this one. ``uri`` is the address that a person
    gave of the artifact, by which its storage is reached. Raises UserError where the checkpoint is another now, and
    where the card names a host of its own.
    """
    parent, above = folder / PARENT, _finding.get()
    if folder.resolve() in above or len(above) >= MAX_GENERATIONS:
        what = "leads back to itself" if folder.resolve() in above else f"has over {MAX_GENERATIONS} others below it"
        raise UserError(f"{folder / CARD}: its base {what}", "name the checkpoint that it was trained on as base.name")
    token = _finding.set((*above, folder.resolve()))
    try:
        base = replace(find_checkpoint(str(parent)), name=card.base.name) if parent.is_dir() else None
        base = base or find_checkpoint(told_base(folder, card.base.name, uri))
    finally:
        _finding.reset(token)
    if base.digest != card.base.digest:
        raise UserError(
            f"{folder}: its base '{card.base.name}' has the digest {base.digest}, not {card.base.digest}",
            "fetch the checkpoint that it was trained on",
        )
    return base


def adapted_base(folder: Path, card: Card, uri: str = "") -> Checkpoint:
    """Return the network that an adapter was trained on: its base, or that with a head of the artifact's own.

    Raises UserError as ``find_base`` does, and where that is not of the family that the card names.
    """
    base = find_base(folder, card, uri)
    adapted = on_base(base, folder) if (folder / NETWORK).is_file() else base
    _require_family(folder, card, adapted.folder)
    return adapted


def _require_family(folder: Path, card: Card, network: Path) -> None:
    """Raise UserError where a card names another family than the files of its network, or one that is not known."""
    told, found = family_named(card.family).name, family_of(network).name
    if told != found:
        raise UserError(f"{folder / CARD}: its family is {told}, but {network} holds a {found} network", _RETRAIN)


def told_base(folder: Path, name: str, uri: str = "") -> str:
    """Return the path or address of the base that a card calls ``name``. Raises UserError.

    A card's author chooses no host, endpoint or user for others' credentials: those come from the environment, or from
    the artifact's own address, ``uri``.
    """
    if not storage.is_remote(name):
        return name
    scheme, authority, path, query = storage.parts(name)
    own = storage.parts(uri) if storage.is_remote(uri) else ("", "", "", "")
    like_own = scheme == own[0] and query in ("", own[3])
    if like_own and authority == own[1]:
        return f"{scheme}://{authority}{path}{own[3]}"
    if scheme in _BUCKETS and _BUCKET.fullmatch(authority) and (not query or like_own):
        return name
    raise UserError(
        f"{folder / CARD}: its base '{name}' is at a host that the card chooses",
        "if you trust it: copy the base to a local folder, and name that in the card's base.name",
    )


def merge_adapter(model: SpeechModel, folder: Path) -> SpeechModel:
    """Return a base model with the PEFT adapter in ``folder`` added to its weights.

    Raises UserError where its weights are damaged, or another network's.
    """
    from peft import PeftModel

    try:
        merged = PeftModel.from_pretrained(model.network, str(folder), is_trainable=False).merge_and_unload()
    except SafetensorError as error:
        raise UserError(
            f"{folder}: its adapter is damaged or not complete: {one_line(error)[:200]}", _RETRAIN
        ) from error
    except (RuntimeError, ValueError, KeyError) as error:  # torch's, of shapes that differ, and PEFT's
        raise UserError(f"{folder}: its adapter does not fit its network: {one_line(error)[:200]}", _RETRAIN) from error
    return replace(model, network=merged.eval())
