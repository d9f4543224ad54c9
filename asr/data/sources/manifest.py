"""Manifests as a source: JSONL in NeMo's field names or anybody else's, one JSON object on a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.data.manifest import json_object
from asr.data.sources.columns import Chooser, utterance
from asr.data.sources.config import SourceConfig
from asr.errors import UserError
from asr.io import storage
from asr.io.address import plain
from asr.utterance import Quarantined, Utterance


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a JSONL file. Relative audio paths are relative to its folder.

    Lines may have different keys, but one of the first must have what is named; those that lack the audio are
    quarantined as missing_audio, and a line that is no JSON object as malformed_row. Raises UserError where there is no
    other one.
    """
    yield from read_json_lines(config, config.source)


def read_json_lines(
    config: SourceConfig, uri: str, needed: tuple[str, ...] = ("audio",)
) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of the JSONL file at ``uri``."""
    folder = storage.parent(uri)
    chooser = Chooser(config, uri, needed)
    broken: list[UserError] = []  # the first, while no line is good: where none follows, this is no manifest
    with storage.open_text(uri) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json_object(line, f"{uri}:{number}")
            except UserError as error:
                broken = broken or [error]
                yield Quarantined(f"line {number}", "malformed_row", error.message)
                continue
            columns = chooser.columns(list(row))
            audio = columns.value(row, "audio")
            yield utterance(row, columns, plain(audio) if isinstance(audio, str) else f"line {number}", folder=folder)
    chooser.require()
    if not chooser.known:
        raise broken[0] if broken else UserError(f"{uri}: the manifest holds no rows")
