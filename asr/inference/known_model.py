"""Facts that a model's files tell before its weights are read: its languages, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from asr.errors import UserError
from asr.io import storage
from asr.models.abilities import Refusals
from asr.models.artifact import fetched, is_artifact, read_card
from asr.models.checkpoint import find_checkpoint, missing
from asr.models.export import engine_of_export, export_record
from asr.models.family import Family, families, family_named, family_of


@dataclass(frozen=True)
class KnownModel:
    """The facts of ``ModelInfo`` that a refusal needs: they are the same once the model is loaded."""

    name: str
    languages: frozenset[str]
    language: str | None
    refusals: Refusals = field(default_factory=dict, hash=False)


def known_model(name: str, public_name: str) -> KnownModel | None:
    """Return what the files of the model ``name`` tell; None where they are not here, or do not tell its languages.

    Whatever is wrong with them is left to loading, which says it. No checkpoint is fetched for it.
    """
    try:
        if missing(name):
            return None
        family, folder, language = _files(name)
    except (UserError, OSError):
        return None
    languages = family.known_languages(folder, language)
    if languages is None:
        return None
    return KnownModel(public_name, languages, only(languages) or language, family.refusals(languages))


def only(languages: frozenset[str]) -> str | None:
    """Return the language of a model that has no other."""
    return next(iter(languages)) if len(languages) == 1 else None


def _files(name: str) -> tuple[Family, Path, str | None]:
    """Return a model's family, the folder of its settings, and the language that it was fine-tuned for."""
    if engine := engine_of_export(name):
        folder = Path(storage.local_path(name)).expanduser()
        record = export_record(folder)
        family = next(one for one in families() if one.fast_engine == engine)
        return family, folder, record.card.language if record and record.card else None
    folder = fetched(name)
    if is_artifact(folder):
        card = read_card(folder)
        return family_named(card.family), folder, card.language
    if not folder.is_dir():
        folder = find_checkpoint(name).folder  # of a local folder that would read the weights, for their digest
    return family_of(folder), folder, None
