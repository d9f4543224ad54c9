"""Size of the network that a configuration names, by its published name or by its folder; no weights are read."""

from __future__ import annotations

from pathlib import Path

from asr.config import suggestion
from asr.errors import UserError
from asr.models.artifact import fetched, is_artifact
from asr.models.capacity import NetworkSize
from asr.models.checkpoint import Checkpoint, builtin_names, find_checkpoint, hub_id, missing
from asr.models.family import families, family_named, family_of
from asr.models.head import HeadSettings, with_head
from asr.models.lineage import root

ALPHABET = 64
"""Symbols of a head whose transcripts are not read: few scripts have more, and what they take is little."""
_FIRST = 0x4E00  # letters that no rule of texts changes


def shape_of(base: str, head: str | None = None, settings: HeadSettings | None = None) -> NetworkSize:
    """Return the size of a checkpoint by its name, or by its config.json; weights are never fetched.

    ``head`` is the family whose head it gets, if any, and ``settings`` are that one's. Raises UserError where neither
    name nor config.json says, and where the checkpoint takes no such head.
    """
    name = hub_id(base)
    published = {name: family for family in families() for name in family.published}
    if name in published and head is None:
        return published[name].published[name]
    folder = fetched(base)
    if folder.is_dir() and is_artifact(folder) and not (folder / "config.json").is_file():
        return shape_of(root(folder, base), head, settings)  # an adapter is merged into weights of the same size
    if folder.is_dir():
        return _shape_in(base, folder, head, settings)
    if name in published:
        draft = with_head(Checkpoint(base, folder, name), published[name].published_files(name)).folder
        return _shape_in(base, draft, head, settings)
    if not missing(base):
        return _shape_in(base, find_checkpoint(base).folder, head, settings)
    known = [*published, *builtin_names()]
    hint = suggestion(base, known) or "give a published size such as openai/whisper-large-v3, or a local folder"
    raise UserError(f"base={base}: its size is not known", hint)


def _shape_in(base: str, folder: Path, head: str | None, settings: HeadSettings | None) -> NetworkSize:
    """Return the size of what is in a folder, with a new head where training makes one.

    Transcripts are not read: the head gets as many symbols as an alphabet has, or as ``settings`` say.
    """
    if settings is None or not (folder / "config.json").is_file():
        return read_shape(folder)
    family = family_named(head) if head else family_of(folder)
    symbols = settings.subwords if settings.unit == "subword" else ALPHABET
    text = "".join(map(chr, range(_FIRST, _FIRST + symbols)))
    plain = HeadSettings(vocabulary=settings.vocabulary)
    checkpoint = Checkpoint(base, folder, digest="")
    made = family.new_head(checkpoint, plain, None, lambda: [text])
    return read_shape(with_head(checkpoint, made).folder if made else folder)


def read_shape(folder: Path) -> NetworkSize:
    """Return the size of a checkpoint in transformers' layout: by its family's formula, or of a step without numbers.

    Raises UserError where the config.json does not tell.
    """
    found = family_of(folder).size(folder)
    if found is not None:
        return found
    from train.capacity.fake_step import FakeNetwork

    return FakeNetwork(folder)
