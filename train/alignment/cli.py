"""The options of ``align``. What does the work is imported once they are read, as in ``train.cli``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.data.sources import rows as source_rows
from asr.errors import UserError
from asr.imports import lasting_imports
from asr.io.cache import cache_root
from asr.io.folders import require_writable
from asr.io.unretryable import writing
from asr.language import code_or_none
from asr.models.alignment import SegmentLimits
from asr.models.checkpoint import require as require_checkpoint
from asr.models.processor import LONGEST_WINDOW_S
from asr.utterance import Quarantined, Utterance
from cluster import termination
from train.console import counting
from train.data.cli import AudioRoot, Column, Config, Delimiter, Format, Header, Split, source_of
from train.evaluation.options import Json, Language, Manifest

if TYPE_CHECKING:
    from train.alignment.alignment import AlignedFiles, AlignmentSummary

_AGAIN = "give the same command again"


def align(  # noqa: PLR0913 - the options of a verb
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A CTC model; of clips up to 30 s Whisper too.")],
    manifest: Manifest,
    out: Annotated[Path, typer.Option("--out", help="Manifest to write (.jsonl), or a folder for it.")],
    max_segment_s: Annotated[
        float, typer.Option(min=1.0, max=LONGEST_WINDOW_S, help="Longest segment of a recording over 30 s.")
    ] = SegmentLimits.max_s,
    min_confidence: Annotated[
        float,
        typer.Option(max=0.0, help="Of a part of a long text, natural logarithm; what is under it is quarantined."),
    ] = SegmentLimits.min_confidence,
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
    spoken = code_or_none(language)
    require_checkpoint(model)
    source = source_of(
        column,
        source=str(manifest),
        format=format,
        config=config,
        split=split,
        delimiter=delimiter,
        header=header,
        audio_roots=audio_root,
    )
    given = list(source_rows(source, cache_root()))
    unread = [row for row in given if isinstance(row, Quarantined)]
    with lasting_imports():
        from asr.models.artifact import load_model
        from asr.models.family import best_device
        from train.alignment.alignment import AlignedFiles, align_rows, named
        from train.evaluation.candidate import candidate

    rows = named((row for row in given if isinstance(row, Utterance)), spoken)
    files = AlignedFiles.at(out)
    if str(files.manifest.resolve()) == str(Path(manifest).resolve()):
        raise UserError(f"--out {out}: that is the manifest that is read", "name another file")
    with writing(out, then=_AGAIN):
        require_writable(files.manifest.parent)
    key = [candidate(model, None).identity, spoken]
    limits = SegmentLimits(max_segment_s, min_confidence)
    again = termination.telling(lambda: ": the same command goes on with what is missing")
    with again, counting("aligning") as advance, writing(out, then=_AGAIN):
        loaded = load_model(model, best_device())
        done = align_rows(loaded, rows, unread, limits, files, key, advance)
    if as_json:
        told = {**done.as_dict(), "manifest": str(files.manifest), "quarantine": str(files.quarantine)}
        print(json.dumps(told, ensure_ascii=False))
        return
    _show(done, files)


def _show(done: AlignmentSummary, files: AlignedFiles) -> None:
    if done.clips:
        print(f"clips with times of words: {done.clips:,} ({done.clip_hours:.2f} h)")
    if done.recordings:
        cut = f"{done.segments:,} segments ({done.segment_hours:.2f} h)"
        print(f"long recordings: {done.recordings:,} ({done.recording_hours:.2f} h), cut into {cut}")
    print(f"in quarantine: {sum(one.rows for one in done.quarantined):,}: {files.quarantine}")
    for one in done.quarantined:
        print(f"  {one.reason}: {one.rows:,}, for example {one.example}: {one.detail}")
    print(f"manifest: {files.manifest}")
    if done.elsewhere:
        roots = json.dumps(done.elsewhere, ensure_ascii=False)
        words = [f"data.train.source={files.manifest}", f"data.train.audio_roots={roots}"]
        print(f"its audio lies elsewhere, so train on it with {shlex.join(words)}")
