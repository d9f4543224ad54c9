"""Folders of audio files: described by ``metadata.csv`` or ``metadata.jsonl``, or with a ``.txt`` beside each file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath

from asr import storage
from asr.address import AUDIO_SUFFIXES
from asr.errors import UserError
from asr.sources.columns import Columns, utterance
from asr.sources.config import SourceConfig
from asr.sources.csv import read_table
from asr.sources.manifest import read_json_lines
from asr.utterance import Quarantined, Utterance

METADATA = ("metadata.csv", "metadata.jsonl")
READERS = 32  # of small text files at the same time: over a network each takes a round trip


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a folder, or of its subfolder named by ``split``.

    With a metadata file: its rows, where ``file_name`` is relative to the folder. Without: each audio file below the
    folder with the text of ``x.txt`` beside ``x.wav``; a file without text is a row with an empty transcript.
    Raises UserError where there is neither.
    """
    folder = _folder(config)
    names = {entry.name for entry in storage.list_files(folder, recursive=False)}
    if "metadata.csv" in names:
        yield from read_table(config, storage.join(folder, "metadata.csv"), folder)
    elif "metadata.jsonl" in names:
        yield from read_json_lines(config, storage.join(folder, "metadata.jsonl"), ("audio", "text"))
    else:
        yield from _pairs(config, folder)


def _folder(config: SourceConfig) -> str:
    folders = storage.list_folders(config.source)
    if config.split is not None:
        if config.split not in folders:
            raise UserError(f"{config.source}: no folder '{config.split}' for this split", f"there are {folders}")
        return storage.join(config.source, config.split)
    described = [
        name
        for name in folders
        if any(storage.kind(storage.join(config.source, name, metadata)) == "file" for metadata in METADATA)
    ]
    if len(described) > 1:
        raise UserError(f"{config.source}: its splits are {', '.join(described)}", f"say which: split: {described[0]}")
    return storage.join(config.source, described[0]) if described else config.source


def _pairs(config: SourceConfig, folder: str) -> Iterator[Utterance | Quarantined]:
    entries = storage.list_files(folder)
    texts = {entry.name.removesuffix(".txt"): entry.uri for entry in entries if entry.name.endswith(".txt")}
    clips = [entry for entry in entries if PurePosixPath(entry.name).suffix.lower() in AUDIO_SUFFIXES]
    if not clips:
        raise UserError(f"{folder}: no audio files and no {' or '.join(METADATA)} are there")
    if not texts:
        raise UserError(f"{folder}: no {' or '.join(METADATA)}, and no .txt beside any of the {len(clips)} audio files")
    columns = Columns({"text": "text"}, config.language)
    with ThreadPoolExecutor(READERS) as pool:
        todo = iter(clips)
        while some := list(islice(todo, 16 * READERS)):
            places = [texts.get(clip.name.rpartition(".")[0]) for clip in some]
            read = pool.map(lambda place: storage.read_text(place).strip() if place else "", places)
            for clip, text in zip(some, read, strict=True):
                yield utterance({"text": text}, columns, clip.name, clip.uri)
