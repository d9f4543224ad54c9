"""A Common Voice release: a folder for a language with ``clips/*.mp3`` and a table for each split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from asr.config import suggestion
from asr.data.sources.config import SourceConfig
from asr.data.sources.csv import read_table
from asr.errors import UserError
from asr.io import storage
from asr.utterance import Quarantined, Utterance

DURATIONS = "clip_durations.tsv"
NO_SPLITS = frozenset({DURATIONS, "reported.tsv", "validated_sentences.tsv", "unvalidated_sentences.tsv"})


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of one split, named by ``split`` or by giving the table itself (``cv/it/train.tsv``).

    Durations come from ``clip_durations.tsv`` where the release has it. ``locale`` is the language: for Whisper
    one without a token (``dv``) must be overridden. Raises UserError where the split is not there.
    """
    folder, table = _table(config)
    durations_s = _durations_s(storage.join(folder, DURATIONS))
    extra = {"duration_s": durations_s} if durations_s else {}
    config = config.model_copy(update={"format": "common_voice"})
    yield from read_table(config, table, storage.join(folder, "clips"), extra, "clips/")


def _table(config: SourceConfig) -> tuple[str, str]:
    if storage.name_of(config.source).endswith(".tsv"):
        return storage.parent(config.source), config.source
    names = [entry.name for entry in storage.list_files(config.source, recursive=False) if entry.name not in NO_SPLITS]
    splits = [PurePosixPath(name).stem for name in names if name.endswith(".tsv")]
    if config.split not in splits:
        there = f"{config.source}: its splits are {', '.join(splits) or 'none'}"
        if config.split is None:
            raise UserError(there, "say which: split: train")
        raise UserError(f"{there}, not '{config.split}'", suggestion(config.split, splits))
    return config.source, storage.join(config.source, f"{config.split}.tsv")


def _durations_s(uri: str) -> dict[str, float]:
    """Seconds by clip; the table's second column is ``duration[ms]``."""
    if storage.kind(uri) != "file":
        return {}
    with storage.open_text(uri) as file:
        rows = (line.rstrip("\r\n").split("\t") for line in file)  # as csv reads what quotes nothing, but of any length
        header = next(rows, [])
        if header[:2] != ["clip", "duration[ms]"]:
            raise UserError(f"{uri}: its columns are {', '.join(header):.200}, not clip and duration[ms]")
        # A length that is no number is looked up in the audio, as where the table is not there.
        return {row[0]: int(row[1]) / 1000 for row in rows if len(row) > 1 and _is_number(row[1])}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 16
