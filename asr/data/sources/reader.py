"""Reading any source: the table of formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from asr.data.sources import audiofolder, common_voice, csv, huggingface, manifest, parquet, prompts, webdataset
from asr.data.sources.channels import chosen
from asr.data.sources.config import SourceConfig
from asr.data.sources.detect import detect
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance

_READERS: dict[str, Callable[[SourceConfig, Path], Iterator[Utterance | Quarantined]]] = {
    "manifest": manifest.rows,
    "common_voice": common_voice.rows,
    "csv": csv.rows,
    "audiofolder": audiofolder.rows,
    "parquet": parquet.rows,
    "webdataset": webdataset.rows,
    "huggingface": huggingface.rows,
    "prompts": prompts.rows,
}


def is_stream(config: SourceConfig) -> bool:
    """Return whether the number of rows is unknown and their audio can be read once only; it then comes as bytes."""
    return config.streaming


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a source as they are read. ``cache`` is where a source that has to download keeps its files.

    Audio is an address that ``asr.audio.decode.decode`` opens on any machine that sees the same storage, or bytes in a
    stream. Unusable rows are yielded with the reason missing_audio, unknown_language, bad_number, bad_segments,
    malformed_row, truncated, no_transcript, not_audio, no_split or missing_file, and those of prompts with more.
    Whether a named file is there, and whether a transcript says anything, is for the consumer to find. Ids are not
    compared with each other. What goes in comes out, as a row or as an unusable one.
    Raises UserError for what a person must mend: before the first row wherever that can be known.
    """
    format = detect(config) if config.format == "auto" else config.format
    if config.streaming and format != "huggingface":
        raise UserError(f"{config.source}: streaming is for Hugging Face data sets", "leave streaming out")
    if (config.delimiter or config.header is not None) and format not in ("csv", "audiofolder", "common_voice"):
        raise UserError(f"{config.source}: delimiter and header are for tables, this is {format}", "leave them out")
    return chosen(_READERS[format](config, cache), config.sound)
