"""``format: auto``: what a source is, told from its name and from what lies in its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from asr.audio.filenames import is_audio
from asr.config import suggestion
from asr.data.sources import prompts
from asr.data.sources.audiofolder import METADATA
from asr.data.sources.config import Format, SourceConfig
from asr.errors import UserError
from asr.io import storage

HUB = "hf:"

BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "manifest",
    ".json": "manifest",
    ".ndjson": "manifest",
    ".csv": "csv",
    ".tsv": "csv",
    ".psv": "csv",
    ".parquet": "parquet",
    ".tar": "webdataset",
}

UNPACK = {"gz": "gunzip", "xz": "unxz", "bz2": "bunzip2", "zst": "unzstd"}  # tables and manifests are read packed
PACKED_TAR = re.compile(r"\.(?:tar\.|t)(gz|xz|bz2|zst)", re.IGNORECASE)

LOOKED_FOR = (
    "looked for the file of datasets' save_to_disk (state.json, dataset_dict.json), a Common Voice release "
    "(clips/, *.tsv), an audiofolder (metadata.csv, metadata.jsonl, or audio with .txt or .lab beside it), *.parquet, "
    "*.tar"
)


def detect(config: SourceConfig) -> Format:
    """Return the format of a source. Raises UserError that says what was looked for where nothing fits."""
    source = config.source
    if source.startswith(prompts.PREFIX):
        return "prompts"
    if source.startswith(HUB) and not source.startswith(f"{HUB}//"):
        return "huggingface"
    kind = storage.kind(source) if source else ""
    if kind == "file":
        return _file_format(source)
    if kind == "folder":
        return _folder_format(source, config.split)
    raise UserError(
        f"'{source}' is no file, no folder and none of {', '.join(_prompt_names())}, hf:OWNER/NAME",
        suggestion(source, [*_prompt_names(), *_neighbours(source)]),
    )


def require(sources: Iterable[SourceConfig]) -> None:
    """Raise UserError for a source of this machine that is not there: before what takes time to import or to start."""
    for config in sources:
        if config.format == "auto" and not storage.is_remote(config.source) and not storage.kind(config.source):
            detect(config)


def _file_format(source: str) -> Format:
    name = storage.name_of(source)
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".tsv" and "clips" in storage.list_folders(storage.parent(source)) and _of_common_voice(source):
        return "common_voice"
    if packed := PACKED_TAR.search(name):
        tool = UNPACK[packed[1].lower()]
        raise UserError(f"{source} is compressed, and tars are read uncompressed", f"unpack it: {tool} {name}")
    if suffix not in BY_SUFFIX:
        known = ", ".join(BY_SUFFIX)
        raise UserError(
            f"{source}: '{suffix}' says no format; known are {known}",
            "say what it is: format: csv for a table, format: manifest for JSON lines",
        )
    return BY_SUFFIX[suffix]


def _of_common_voice(table: str) -> bool:
    """Return whether a table has a release's columns; others with clips/ beside them name their clips as they like."""
    with storage.open_text(table) as file:
        header, row = file.readline().rstrip("\r\n"), file.readline()
    return {"path", "sentence"} <= {name.strip() for name in header.split("\t")} and "clips/" not in row


def _folder_format(source: str, split: str | None) -> Format:
    names = {entry.name for entry in storage.list_files(source, recursive=False)}
    folders = storage.list_folders(source)
    if "clips" in folders and any(name.endswith(".tsv") for name in names):
        return "common_voice"
    found = _by_names(names)
    manifests = sorted(name for name in names if name.endswith(".jsonl"))
    if found is None and manifests:
        raise UserError(f"{source} is a folder with the manifests {', '.join(manifests)}", "name one of them")
    for folder in [split] if split in folders else folders:
        if found is not None:
            break
        inside = storage.list_files(storage.join(source, folder), recursive=False)
        found = _by_names({entry.name for entry in inside})
    if found is None:  # further down: train/speaker1/x.wav
        within = storage.join(source, str(split)) if split in folders else source
        found = _by_names({storage.name_of(entry.name) for entry in storage.list_files(within)})
    if found is not None:
        return found
    raise UserError(f"{source}: nothing here is a source of speech: {LOOKED_FOR}", "name its format: format: ...")


def _by_names(names: set[str]) -> Format | None:
    suffixes = {PurePosixPath(name).suffix.lower() for name in names}
    if names & {"state.json", "dataset_dict.json"}:
        return "huggingface"
    if names & set(METADATA):
        return "audiofolder"
    if ".parquet" in suffixes:
        return "parquet"
    if ".tar" in suffixes:
        return "webdataset"
    return "audiofolder" if any(map(is_audio, names)) else None


def _prompt_names() -> list[str]:
    return [f"{prompts.PREFIX}{language}" for language in prompts.LANGUAGES]


def _neighbours(source: str) -> list[str]:
    """Describe the other files of the folder that a mistyped source would lie in."""
    folder = storage.parent(source)
    if storage.is_remote(source) or storage.kind(folder) != "folder":
        return []
    return [entry.uri for entry in storage.list_files(folder, recursive=False)]
