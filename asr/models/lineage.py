"""Artifacts as bases: merges an adapter into the weights below it, and records a model's parents."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from asr.errors import UserError
from asr.io.cache import cache_root
from asr.io.digest import sha256
from asr.models.artifact import CARD, PARENT, README, Ancestor, find_base, read_card, told_base, verified_card, whole
from asr.models.checkpoint import Checkpoint

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
_VERSION = 1  # counts the changes to what is written: an older cache is not used


def merged(name: str, folder: Path) -> Checkpoint:
    """Return the artifact in ``folder`` as a checkpoint like any other, with its own tokenizer and generation config.

    An adapter is merged into its base, in the cache. Its digest is that of what went in: sums of floats differ between
    machines. Raises UserError where the artifact or its base is not what its card says.
    """
    card = verified_card(folder)
    if card.weights == "full":
        return whole(name, folder, card)
    base = find_base(folder, card, name)
    told = [base.digest, *(card.files[file] for file in _ADAPTER_FILES)]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()
    settings = hashlib.sha256("\n".join([digest, *card.files.values()]).encode()).hexdigest()
    target = cache_root() / "checkpoints" / f"merged-{settings[:16]}-v{_VERSION}"
    if not target.is_dir():
        from asr.models.export import export  # it imports what imports this

        try:
            export(name, target, "transformers")
        except UserError:
            if not target.is_dir():  # another process was first
                raise
    else:
        verified_card(target)
    return Checkpoint(name, target, f"sha256:{digest}", card.language, card.short_context, folder)


def lineage(base: Checkpoint) -> list[Ancestor]:
    """Return what a card tells of an artifact that was trained on: itself and its ancestors; of others nothing."""
    if base.artifact is None:
        return []
    card = read_card(base.artifact)
    parent = Ancestor(name=base.name, digest=base.digest, fingerprint=sha256(base.artifact / CARD)[:12])
    return [parent, *(card.lineage or [Ancestor(name=card.base.name, digest=card.base.digest)])]


def root(folder: Path, uri: str = "") -> str:
    """Return the name of the checkpoint that an artifact goes back to, as ``told_base`` lets it. Raises UserError."""
    card = read_card(folder)
    return told_base(folder, card.lineage[-1].name if card.lineage else card.base.name, uri)


def keep_parent(base: Checkpoint, draft: Path) -> None:
    """Copy the adapter that a child was trained on into its artifact: it needs what may be deleted or far away.

    Whole weights are named only, as those of other checkpoints are.
    """
    if base.artifact is None or not (base.artifact / _ADAPTER_FILES[0]).is_file():
        return
    card = read_card(base.artifact)
    for file in (*card.files, CARD, README):
        source, target = base.artifact / file, draft / PARENT / file
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
