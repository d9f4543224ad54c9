"""Hugging Face ``datasets``: from the hub or a local folder, streamed or not, and what ``save_to_disk`` wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config import suggestion
from asr.data.manifest import json_object
from asr.data.sources import repository
from asr.data.sources.cells import audio_column, metadata_columns, paths, records, table_rows
from asr.data.sources.columns import ColumnMap, choose, utterance
from asr.data.sources.config import SourceConfig
from asr.errors import DataError, UserError, one_line
from asr.io import storage
from asr.io.address import arrow_row, open_arrow, read_batch
from asr.io.parquet.arrow_types import bytes_of
from asr.io.roots import Roots
from asr.parsed import JsonObject
from asr.utterance import Quarantined, Utterance

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

HUB = "hf:"


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of ``hf:owner/name``, of a local folder that ``load_dataset`` takes, or of a saved data set.

    Audio is never decoded by ``datasets``. Without streaming, it stays in the Arrow files of Hugging Face's own cache
    (``HF_HOME``: on a cluster, a folder that all nodes see) or of the saved folder; in a stream it comes as bytes.
    Ids are the split and the row's number, the same in both ways. Raises UserError with what ``datasets`` says.
    """
    name = config.source.removeprefix(HUB)
    saved = not config.source.startswith(HUB) and _saved_folder(config)
    if saved:
        if config.streaming:
            raise UserError(f"{config.source}: a saved data set is read from where it lies", "leave streaming out")
        state = saved_index(saved, "state.json", "_data_files")
        split = str(state.get("_split") or config.split or storage.name_of(saved))
        yield from _arrow_rows(config, _data_files(saved, state), split)
    elif config.streaming:
        yield from _streamed(config, name)
    else:
        yield from _loaded(config, name)


def _saved_folder(config: SourceConfig) -> str:
    """The folder of one saved data set, the split's where there are several; "" for what ``load_dataset`` reads."""
    names = {entry.name for entry in storage.list_files(config.source, recursive=False)}
    if "state.json" in names:
        return config.source
    if "dataset_dict.json" not in names:
        return ""
    splits = saved_index(config.source, "dataset_dict.json", "splits")["splits"]
    folder = _chosen(config, [str(split) for split in splits])
    if not re.fullmatch(r"\w[\w.-]*", folder):  # who wrote the file chooses no folder elsewhere, and no host
        raise UserError(f"{config.source}: {folder!r:.100} is no name of a split", "mend dataset_dict.json")
    return storage.join(config.source, folder)


def saved_index(folder: str, name: str, key: str) -> JsonObject:
    """Return what ``save_to_disk`` wrote about a folder, which has a list ``key``. Raises UserError."""
    uri = storage.join(folder, name)
    index = json_object(storage.read_text(uri), uri)
    if not isinstance(index.get(key), list):
        raise UserError(f"{uri}: has no list '{key}'", "it is not as save_to_disk writes it")
    return index


def _data_files(saved: str, state: JsonObject) -> list[str]:
    """The Arrow files of a saved data set, which lie in its folder, whatever its index says."""
    try:
        return [Roots(saved).address(file["filename"]) for file in state["_data_files"]]
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{saved}: state.json names no files: {error!r:.100}") from None
    except DataError as fault:
        raise UserError(f"{saved}: state.json: {fault.detail}") from None


def _chosen(config: SourceConfig, splits: list[str]) -> str:
    if config.split in splits:
        return str(config.split)
    if config.split is None and len(splits) == 1:
        return splits[0]
    there = f"{config.source}: its splits are {', '.join(splits)}"
    if config.split is None:
        raise UserError(there, f"say which: split: {splits[0]}")
    raise UserError(f"{there}, not '{config.split}'", suggestion(config.split, splits))


def _loaded(config: SourceConfig, name: str) -> Iterator[Utterance | Quarantined]:
    import datasets

    with _explained(config), repository.only_own(name), _paths_as_they_are():
        split = config.split or _chosen(config, datasets.get_dataset_split_names(name, config.config))
        data = datasets.load_dataset(name, config.config, split=split)
        lengths = {part: info.num_examples for part, info in data.info.splits.items()}
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    own = config.model_copy(update={"audio_roots": [*repository.roots(name), *config.audio_roots]})
    for part in parts:  # of "train[:10%]" or "train+validation"
        with _explained(config), repository.only_own(name), _paths_as_they_are():
            whole = datasets.load_dataset(name, config.config, split=part.splitname)
        files = [file["filename"] for file in whole.cache_files]
        yield from islice(_arrow_rows(own, files, part.splitname), part.from_, part.to)


def _arrow_rows(config: SourceConfig, places: list[str], split: str) -> Iterator[Utterance | Quarantined]:
    number = 0
    columns: ColumnMap | None = None
    for uri in places:
        with storage.explained(uri, "cannot be read"), _arrow_explained(uri, 0):
            file, schema = open_arrow(uri)
            names = schema.names
        with file:
            columns = columns or choose(config, names, config.source, ("audio", "text"))
            while True:
                offset = file.tell()
                try:
                    with _arrow_explained(uri, offset):
                        batch = read_batch(file, schema, offset)
                        behind = file.tell()
                        found = list(_batch_rows(batch, columns, _Batch(uri, offset, split, number)))
                except EOFError:
                    break
                yield from found
                number += batch.num_rows
                file.seek(behind)


@contextmanager
def _arrow_explained(uri: str, at: int) -> Iterator[None]:
    """Make what pyarrow raises for bytes that are no Arrow a UserError; EOFError is the end of the stream."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        what = f"broken at byte {at}" if at else "not an Arrow stream"
        raise UserError(f"{uri}: {what}: {one_line(error)}") from None


@dataclass(frozen=True)
class _Batch:
    """Position of a record batch, the split it belongs to, and the number of its first row there."""

    uri: str
    offset: int
    split: str
    begin: int


def _batch_rows(batch: pa.RecordBatch, columns: ColumnMap, at: _Batch) -> Iterator[Utterance | Quarantined]:
    audio = audio_column(batch.schema, columns, at.uri)
    wanted = metadata_columns(batch.schema, columns)
    count = batch.num_rows
    names = paths(batch, audio) if audio.path_column else [None] * count
    present = bytes_of(batch.column(audio.name)).is_valid().to_pylist() if audio.inside else [False] * count

    def name(row: int) -> tuple[str, str]:
        address = arrow_row(at.uri, at.offset, row, audio.name, names[row] or "")
        return f"{at.split}:{at.begin + row}", address

    pairs = list(zip(present, names, strict=True))
    yield from table_rows(records(batch, wanted, count), pairs, columns, storage.parent(at.uri), name)


def _streamed(config: SourceConfig, name: str) -> Iterator[Utterance | Quarantined]:
    import datasets

    with _explained(config), repository.only_own(name), _paths_as_they_are():
        split = config.split or _chosen(config, datasets.get_dataset_split_names(name, config.config))
        data = datasets.load_dataset(name, config.config, split=split, streaming=True)
        data = data.decode(False) if data.features else data
    columns: ColumnMap | None = None
    for number, row in enumerate(_each(config, name, data)):
        columns = columns or choose(config, list(row), config.source, ("audio", "text"))
        id = f"{split}:{number}"
        try:
            audio = _read(columns.value(row, "audio"), name)
        except DataError as fault:
            yield Quarantined(id, fault.reason, fault.detail)
            continue
        yield utterance(row, columns, id, audio)


def _each(config: SourceConfig, name: str, data: datasets.IterableDataset) -> Iterator[JsonObject]:
    rows = iter(data)
    while True:
        with (
            _explained(config),
            repository.only_own(name),
            _paths_as_they_are(),
        ):  # around each step: between them others may use datasets
            row = next(rows, None)
        if row is None:
            return
        yield row


def _read(cell: object, name: str) -> bytes | None:
    """The bytes of a streamed row's audio, which may lie in another file, in an archive on the hub even."""
    inside, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (None, cell)
    if isinstance(cell, bytes) or inside is not None or not path:
        return cell if isinstance(cell, bytes) else inside
    if not isinstance(path, str):
        raise DataError("missing_audio", f"audio is {path!r:.100}")
    return repository.read(path, name)


@contextmanager
def _paths_as_they_are() -> Iterator[None]:
    """Let ``datasets`` write a file's path or bytes into a table without torchcodec.

    Up to 5.2 at least, its ``Audio.encode_example`` imports torchcodec even where nothing is encoded, as for any data
    set that is a folder of audio files.
    """
    from datasets import Audio

    original = Audio.encode_example

    def encode_example(self: datasets.Audio, value: object) -> object:
        if isinstance(value, str | Path):
            return {"bytes": None, "path": str(value)}
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
            return value
        return original(self, value)

    Audio.encode_example = encode_example
    try:
        yield
    finally:
        Audio.encode_example = original


@contextmanager
def _explained(config: SourceConfig) -> Iterator[None]:
    """``datasets`` raises half a dozen kinds of errors for a name that is not there, and any for a stranger's file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{config.source}: {one_line(error.__cause__ or error)}") from None
