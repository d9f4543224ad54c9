"""The options of ``data inspect`` and ``data prepare``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from asr.config import resolve
from asr.data.manifest import write_quarantine
from asr.data.sources import SourceConfig
from asr.errors import UserError
from asr.io.folders import require_writable
from asr.io.unretryable import writing
from asr.models.checkpoint import find_checkpoint
from train.console import counting
from train.data.charts import draw_lengths
from train.data.inspect import BIN_S, InspectConfig
from train.data.inspect import inspect as inspect_rows
from train.data.inspection_view import show
from train.data.prepare import PrepareConfig
from train.data.prepare import prepare as prepare_rows
from train.data.splits import given_splits, rows_by_split, rows_of

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A manifest, table or folder, local or s3://...; hf:OWNER/NAME; prompts:it."),
]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings over the defaults.")]
Format = Annotated[str, typer.Option("--format", help="Of the source; default: as its files look.")]
Config = Annotated[str | None, typer.Option("--config", help="Configuration of a Hugging Face data set.")]
Split = Annotated[str | None, typer.Option("--split", help="The one split to read.")]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="A column's name: text=sentence. Repeatable."),
]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="Between a table's cells; default: what fits.")]
Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="Whether a table's first line names its columns.")
]
AudioRoot = Annotated[
    list[str] | None,
    typer.Option("--audio-root", metavar="FOLDER", help="Where else the audio lies that the rows name. Repeatable."),
]
Language = Annotated[str | None, typer.Option("--language", help="Of every row: a code or name.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


_AGAIN = "give the same command again"


def inspect(  # noqa: PLR0913 - the options of a verb
    source: Source,
    settings: Settings = None,
    against: Annotated[str | None, typer.Option(help="Another source: what is in both?")] = None,
    against_split: Annotated[str | None, typer.Option(help="A split of it, or of SOURCE: what is in both?")] = None,
    base: Annotated[str, typer.Option(help="Checkpoint whose tokenizer counts.")] = "builtin:base",
    out: Annotated[Path | None, typer.Option(help="Folder for lengths.png, faults.parquet, inspection.json.")] = None,
    format: Format = "auto",
    config: Config = None,
    split: Split = None,
    column: Column = None,
    delimiter: Delimiter = None,
    header: Header = None,
    audio_root: AudioRoot = None,
    language: Language = None,
    as_json: Json = False,
) -> None:
    settled = resolve(InspectConfig, None, settings or []).value
    read = source_of(
        column,
        source=source,
        format=format,
        config=config,
        split=split,
        language=language,
        delimiter=delimiter,
        header=header,
        audio_roots=audio_root,
    )
    if split is None and (there := given_splits(read)):
        names = ", ".join(str(part.split) for part in there.values())
        raise UserError(f"{source} has the splits {names}", "say which: --split train --against-split test")
    other = _other(read, against, against_split)
    from asr.models.family import load_processor  # not for a help text or a wrong setting

    processor = load_processor(find_checkpoint(base))
    if out is not None:
        with writing(out, then=_AGAIN):
            require_writable(out)
    with counting("decoding") as advance:
        result, survey = inspect_rows(rows_of(read), processor, settled, rows_of(other) if other else None, advance)
    if out is not None:
        with writing(out, then=_AGAIN):
            draw_lengths(out / "lengths.png", result.histogram, BIN_S, _title(read))
            write_quarantine(out / "faults.parquet", survey.faults)
            (out / "inspection.json").write_text(result.to_json() + "\n", encoding="utf-8")
    if as_json:
        print(result.to_json())
        return
    console, room = Console(markup=False, highlight=False), processor.max_label_tokens
    show(result, _title(read), _title(other) if other else None, base, room, console)
    if out is not None:
        print(f"written to {out}: lengths.png, faults.parquet, inspection.json")


def prepare(  # noqa: PLR0913 - the options of a verb
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder for manifests, clips and the quarantine table.")],
    settings: Settings = None,
    format: Format = "auto",
    config: Config = None,
    split: Split = None,
    column: Column = None,
    delimiter: Delimiter = None,
    header: Header = None,
    audio_root: AudioRoot = None,
    language: Language = None,
    as_json: Json = False,
) -> None:
    settled = resolve(PrepareConfig, None, settings or []).value
    read = source_of(
        column,
        source=source,
        format=format,
        config=config,
        split=split,
        language=language,
        delimiter=delimiter,
        header=header,
        audio_roots=audio_root,
    )
    with counting("decoding") as advance:
        prepared = prepare_rows(rows_by_split(read), out, settled, advance)
    if as_json:
        print(json.dumps(asdict(prepared), default=str))
        return
    table = Table("split", "clips", "hours", "manifest")
    for name, manifest in prepared.manifests.items():
        table.add_row(name, f"{prepared.clips[name]:,}", f"{prepared.hours[name]:.2f}", str(manifest))
    Console(markup=False).print(table)
    count = sum(prepared.quarantined.values())
    print(f"in quarantine: {count} rows ({prepared.reasons}): {out / 'quarantine.parquet'}")
    print(f"{prepared.seconds_per_1000_clips:.1f} s per thousand clips")


def source_of(column: list[str] | None, **named: str | bool | list[str] | None) -> SourceConfig:
    """Return the source that a command's options describe. Raises UserError naming each option that is wrong."""
    words = [f"{key}={json.dumps(value)}" for key, value in named.items() if value is not None]
    for pair in column or []:
        ours, equals, theirs = pair.partition("=")
        if not equals:
            raise UserError(f"--column {pair}: names one column only", "write ours=theirs, for example text=sentence")
        words.append(f"columns.{ours}={json.dumps(theirs)}")
    return resolve(SourceConfig, None, words).value


def _other(read: SourceConfig, against: str | None, split: str | None) -> SourceConfig | None:
    if against is None:
        return read.model_copy(update={"split": split}) if split is not None else None
    if against == read.source:
        return read.model_copy(update={"split": split})
    return SourceConfig(source=against, split=split, language=read.language, audio_roots=read.audio_roots)


def _title(read: SourceConfig) -> str:
    return read.source if read.split is None else f"{read.source}, {read.split}"
