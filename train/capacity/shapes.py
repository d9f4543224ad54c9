"""Size of the network that a configuration names, by its published name or by its folder; no weights are read."""

from __future__ import annotations

from pathlib import Path

from asr.config import suggestion
from asr.errors import UserError
from asr.models.artifact import fetched, is_artifact
from asr.models.capacity import NetworkSize
from asr.models.checkpoint import builtin_names, find_checkpoint, hub_id, missing
from asr.models.family import families, family_of
from asr.models.lineage import root


def shape_of(base: str) -> NetworkSize:
    """Return the size of a checkpoint by its name, or by its config.json; weights are never fetched.

    Raises UserError where neither says.
    """
    name = hub_id(base)
    published = {name: size for family in families() for name, size in family.published.items()}
    if name in published:
        return published[name]
    folder = fetched(base)
    if folder.is_dir() and is_artifact(folder) and not (folder / "config.json").is_file():
        return shape_of(root(folder, base))  # an adapter is merged into weights of the same size
    if folder.is_dir():
        return read_shape(folder)
    if not missing(base):
        return read_shape(find_checkpoint(base).folder)
    known = [*published, *builtin_names()]
    hint = suggestion(base, known) or "give a published size such as openai/whisper-large-v3, or a local folder"
    raise UserError(f"base={base}: its size is not known", hint)


def read_shape(folder: Path) -> NetworkSize:
    """Return the size of a checkpoint in transformers' layout: by its family's formula, or of a step without numbers.

    Raises UserError where the config.json does not tell.
    """
    found = family_of(folder).size(folder)
    if found is not None:
        return found
    from train.capacity.fake_step import FakeNetwork

    return FakeNetwork(folder)
