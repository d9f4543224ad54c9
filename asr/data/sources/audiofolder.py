"""Folders of audio: with ``metadata.csv``, ``.jsonl`` or ``.parquet``, or with a ``.txt`` or ``.lab`` beside each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from asr.audio.filenames import HOW_TOLD, is_audio, is_document, is_litter, suffix
from asr.data.sources import parquet
from asr.data.sources.columns import ColumnMap, utterance
from asr.data.sources.config import SourceConfig
from asr.data.sources.csv import read_table
from asr.data.sources.manifest import read_json_lines
from asr.data.sources.samples import MAX_TEXT_BYTES
from asr.data.sources.shards import SPLITS
from asr.errors import DataError, UserError
from asr.io import storage
from asr.io.storage import FileEntry
from asr.utterance import Quarantined, Utterance

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
TABLES = (".csv", ".tsv", ".jsonl")
# Lines of a .lab that is no transcript, as forced aligners read it, but the times of its words or sounds.
_TIMED = re.compile(r"\s*(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)(\s.*)?")

READERS = 32  # of small text files at the same time: over a network each takes a round trip


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a folder, or of its part named by ``split``: a subfolder, or the table's rows with audio there.

    With a metadata file: its rows, where ``file_name`` is relative to the folder. Without: each audio file below the
    folder with the text of ``x.txt``, or else ``x.lab``, beside ``x.wav``. Audio without a text, a text without audio,
    and files of no kind that is usual there are quarantined as no_transcript, missing_audio and not_audio.
    Raises UserError where there is neither, where a part is needed and not named, and where the one that has a
    metadata file is not all.
    """
    folder, part = _folder(config)
    described = _described(folder)
    if not described:
        yield from _pairs(config, folder)
    elif part is None:
        yield from _table(config, storage.join(folder, described), folder)
    else:
        found = False
        for row in _of_split(part, _table(config, storage.join(folder, described), folder), folder):
            found = found or isinstance(row, Utterance)
            yield row
        if not found:
            uri = storage.join(folder, described)
            raise UserError(f"{uri}: no row's audio is in a folder '{part}' for this split", "leave split out")


def _described(folder: str) -> str:
    return next((name for name in METADATA if storage.kind(storage.join(folder, name)) == "file"), "")


def _table(config: SourceConfig, uri: str, folder: str) -> Iterator[Utterance | Quarantined]:
    kind = suffix(storage.name_of(uri))
    if kind == ".csv":
        return read_table(config, uri, folder)
    if kind == ".jsonl":
        return read_json_lines(config, uri, ("audio", "text"))
    return parquet.rows(config.model_copy(update={"source": uri, "split": None}), Path())


def _folder(config: SourceConfig) -> tuple[str, str | None]:
    """Return the folder to read, and the split to look for in its table where that describes all splits in one."""
    source, folders = config.source, storage.list_folders(config.source)
    parts = [name for name in folders if _described(storage.join(source, name))]
    all_in_one = bool(_described(source))
    if config.split is not None:
        if all_in_one and config.split not in parts:
            return source, config.split
        if config.split not in folders:
            raise UserError(f"{source}: no folder '{config.split}' for this split", f"there are {folders}")
        return storage.join(source, config.split), None
    _require_all_described(source, folders, parts, all_in_one)
    splits = parts or [name for name in folders if all_in_one and name in SPLITS]
    if len(splits) > 1:
        raise UserError(f"{source}: its splits are {', '.join(splits)}", f"say which: split: {splits[0]}")
    return (source if all_in_one or not parts else storage.join(source, parts[0])), None


def _require_all_described(source: str, folders: Sequence[str], parts: Sequence[str], all_in_one: bool) -> None:
    """Raise UserError where one folder has a table, and there is audio beside it: half of a corpus would vanish."""
    if len(parts) != 1 or all_in_one:
        return
    lists = [storage.list_files(source, recursive=False)]
    lists += [storage.list_files(storage.join(source, name)) for name in folders if name not in parts]
    found = next((entry.uri for entries in lists for entry in entries if is_audio(entry.name)), "")
    if found:
        table = storage.join(source, parts[0], _described(storage.join(source, parts[0])))
        raise UserError(
            f"{source}: {table} does not describe all audio that is there, such as {found}",
            f"read the folder that it describes: split: {parts[0]}; and others as sources of their own",
        )


def _of_split(split: str, rows: Iterable[Utterance | Quarantined], folder: str) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of one split from a table of all, told by the folder of their audio.

    Rows that are in none of them come, quarantined, with the first split that there is: each is told once.
    """
    folders = storage.list_folders(folder)
    with_others = split == next((name for name in SPLITS if name in folders), split)
    for row in rows:
        named = str(row.audio if isinstance(row, Utterance) else row.id)
        inside = named.removeprefix(folder.partition("?")[0]).split("/")[:-1]
        if split in inside:
            yield row
        elif with_others and not set(inside) & {*SPLITS, *folders}:
            yield (
                Quarantined(row.id, "no_split", f"{named}: in no folder of a split")
                if isinstance(row, Utterance)
                else row
            )


def _pairs(config: SourceConfig, folder: str) -> Iterator[Utterance | Quarantined]:
    entries = [entry for entry in storage.list_files(folder) if not is_litter(entry.name)]
    clips = [entry for entry in entries if is_audio(entry.name)]
    stems = {_stem(clip) for clip in clips}
    texts = _texts(entries, stems)
    if not clips:
        raise UserError(f"{folder}: no audio files and no {' or '.join(METADATA)} are there", HOW_TOLD)
    if not texts:
        tables = [entry.uri for entry in entries if suffix(entry.name) in TABLES]
        raise UserError(
            f"{folder}: no {' or '.join(METADATA)}, and no .txt or .lab beside any of the {len(clips)} audio files",
            f"name the table itself: {tables[0]}" if tables else "",
        )
    yield from _left_over(entries, texts, stems)
    columns = ColumnMap({"text": "text"}, config.language)
    with ThreadPoolExecutor(READERS) as pool:
        todo = iter(clips)
        while some := list(islice(todo, 16 * READERS)):
            places = [texts.get(_stem(clip)) for clip in some]
            for clip, text in zip(some, pool.map(_text, places), strict=True):
                if isinstance(text, DataError):
                    yield Quarantined(clip.name, text.reason, f"{clip.uri}: {text.detail}")
                else:
                    yield utterance({"text": text}, columns, clip.name, clip.uri)


def _texts(entries: Sequence[FileEntry], stems: set[str]) -> dict[str, FileEntry]:
    """Return the transcripts by their stems. A ``.lab`` is one where clips have it and no ``.txt``."""
    texts = {_stem(entry): entry for entry in entries if suffix(entry.name) == ".txt"}
    labels = {_stem(entry): entry for entry in entries if suffix(entry.name) == ".lab"}
    return labels | texts if (stems & set(labels)) - set(texts) else texts


def _text(entry: FileEntry | None) -> str | DataError:
    if entry is None:
        return DataError("no_transcript", "no .txt or .lab beside it")
    kind = suffix(entry.name)
    if entry.bytes > MAX_TEXT_BYTES:
        return DataError("malformed_row", f"the {kind} beside it holds {entry.bytes:,} bytes, over {MAX_TEXT_BYTES:,}")
    try:
        text = storage.read_bytes(entry.uri).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return DataError("malformed_row", f"the {kind} beside it is no UTF-8: {error}")
    except UserError as error:
        return DataError("no_transcript", f"the {kind} beside it: {error.message}")
    if kind == ".lab" and text and all(map(_is_timed, text.splitlines())):
        return DataError("no_transcript", "the .lab beside it holds times, not only what is said")
    return text


def _is_timed(line: str) -> bool:
    timed = _TIMED.fullmatch(line)
    return not line.strip() or (timed is not None and float(timed[1]) <= float(timed[2]))


def _left_over(entries: Sequence[FileEntry], texts: dict[str, FileEntry], stems: set[str]) -> Iterator[Quarantined]:
    """Yield what might have been a clip and is none: a text without audio, a file of an unknown kind."""
    for entry in entries:
        is_text = texts.get(_stem(entry)) is entry
        if is_audio(entry.name) or (is_document(entry.name) and not is_text):
            continue
        if not is_text:
            if _stem(entry) not in texts and _stem(entry) not in stems:
                yield Quarantined(entry.name, "not_audio", f"{entry.uri}: its name does not say that it is audio")
        elif _stem(entry) not in stems:
            near = [each.name for each in entries if _stem(each) == _stem(entry) and each is not entry]
            there = f", only {', '.join(near)}" if near else ""
            yield Quarantined(entry.name, "missing_audio", f"{entry.uri}: no audio file beside it{there}")


def _stem(entry: FileEntry) -> str:
    return entry.name.rpartition(".")[0]
