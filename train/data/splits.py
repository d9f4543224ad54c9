"""The splits that a source comes with: a Common Voice release, a data set of the hub, a folder with train and test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from asr.data.sources import SourceConfig, is_stream
from asr.data.sources import rows as source_rows
from asr.data.sources.detect import HUB, detect
from asr.data.sources.huggingface import saved_index
from asr.errors import UserError, one_line
from asr.io import storage
from asr.io.cache import cache_root

if TYPE_CHECKING:
    from train.data.prepare import Row

# What other people call our splits, the surer name first. Any other split (``validated``, ``other``) has to be named.
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "valid", "val"),
    "test": ("test", "testing"),
}


def given_splits(config: SourceConfig) -> dict[str, SourceConfig]:
    """Return our names of the splits and the source of each; empty where the source has fewer than two.

    A source whose only split is ``train`` has been dealt by nobody.
    """
    there = _split_names(config)
    named = {ours: next((name for name in names if name in there), None) for ours, names in NAMES.items()}
    found = {ours: config.model_copy(update={"split": name}) for ours, name in named.items() if name is not None}
    return found if len(found) > 1 else {}


def rows_by_split(config: SourceConfig) -> Iterable[Row] | Mapping[str, Iterable[Row]]:
    """Return a source's rows, by our names of the splits where it comes with several and is not asked for one."""
    if config.split:
        return {re.sub(r"[^\w.-]+", "-", config.split): rows_of(config)}
    return {name: rows_of(part) for name, part in given_splits(config).items()} or rows_of(config)


def rows_of(config: SourceConfig) -> Iterable[Row]:
    """Return the rows of a source; all at once where that only holds addresses, so that their number is known."""
    found = source_rows(config, cache_root())
    return found if is_stream(config) else list(found)


def _split_names(config: SourceConfig) -> frozenset[str]:
    source = config.source
    format = detect(config) if config.format == "auto" else config.format
    if format == "huggingface":
        return frozenset(_of_data_set(config))
    if format not in ("common_voice", "audiofolder", "parquet") or storage.kind(source) != "folder":
        return frozenset()
    if format == "audiofolder":
        return frozenset(storage.list_folders(source))
    files = [file.name for file in storage.list_files(source, recursive=format == "parquet")]
    if format == "common_voice":
        return frozenset(name.removesuffix(".tsv") for name in files if name.endswith(".tsv"))
    # train/0.parquet, train-00000-of-00002.parquet, train.parquet
    return frozenset(
        part
        for name in files
        for part in (*name.split("/")[:-1], *re.split(r"[-._]", name.split("/")[-1], maxsplit=1)[:1])
    )


def _of_data_set(config: SourceConfig) -> Iterable[str]:
    if not config.source.startswith(HUB) or config.source.startswith(f"{HUB}//"):
        name = "dataset_dict.json"
        there = storage.kind(storage.join(config.source, name)) == "file"
        return map(str, saved_index(config.source, name, "splits")["splits"]) if there else []
    from datasets import get_dataset_split_names

    try:
        names: list[str] = get_dataset_split_names(config.source.removeprefix(HUB), config.config)
    except Exception as error:  # of half a dozen kinds, and any for a stranger's file
        raise UserError(f"{config.source}: {one_line(error)}") from None
    return names
