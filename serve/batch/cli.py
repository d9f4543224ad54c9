"""The verb ``transcribe``. Decoding is imported once the options are read: with it come torch and transformers."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from asr.errors import DataError, UserError
from asr.io import storage
from asr.language import code
from asr.models.checkpoint import require
from asr.models.export_formats import EngineChoice
from asr.sound import AUTO, NAMED, SoundChoice
from asr.transcript import Task
from cluster import termination
from serve.batch.inputs import FoundInputs, find
from serve.batch.output_folder import FAILURES, Format, document
from serve.batch.progress import shown
from serve.config import ServeConfig

if TYPE_CHECKING:
    from serve.batch.job import BatchJob


def transcribe(  # noqa: PLR0913 - the options of a verb
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Audio files, folders, 'patterns/**/*.mp3', addresses (s3://...), or a .txt or .jsonl list of them.",
        ),
    ],
    model: Annotated[str, typer.Option(help="An artifact's folder, a hub id, a local checkpoint or builtin:base.")],
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder or address that gets a transcript for each input, through Ray; what is there already is not "
            "done again. Without, they are printed. Exit code 1 where some failed: failures.csv there names them, and "
            "what is to be known about others."
        ),
    ] = None,
    formats: Annotated[list[Format] | None, typer.Option("--format", help="May be given several times.")] = None,
    language: Annotated[
        str | None, typer.Option(help="Code or name of what is spoken; without, detected in each file.")
    ] = None,
    task: Annotated[Task, typer.Option(help="translate: into English.")] = "transcribe",
    prompt: Annotated[str, typer.Option(help="Names and terms, spelled as they should be written.")] = "",
    keywords: Annotated[
        list[str] | None,
        typer.Option(help="A word or phrase to be expected, of models that take them. Repeatable."),
    ] = None,
    engine: Annotated[EngineChoice, typer.Option(help="auto: the faster one that can run the model.")] = "auto",
    track: Annotated[
        int | None, typer.Option(min=0, help="Audio track, counted from 0; without, the one a file marks as default.")
    ] = None,
    channel: Annotated[
        str,
        typer.Option(help=f"{', '.join(NAMED)} (all, on their own: the transcript says which), or a number from 0."),
    ] = AUTO,
    audio_root: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="Where else the files lie that a list names. Repeatable."),
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Times of words, with --format json.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the transcripts that an earlier run left in --out, and begin.")
    ] = False,
    address: Annotated[str | None, typer.Option(help="Ray cluster (auto, host:port); default: a local one.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each file, or with --out one for the run.")
    ] = False,
) -> None:
    """Write down what is said in audio files."""
    chosen = formats or [Format.TXT]
    config = ServeConfig(model=model, engine=engine)
    sound, roots = SoundChoice(track, channel), audio_root or []
    if out is None and (overwrite or address is not None):
        raise UserError(f"{'--overwrite' if overwrite else '--address'} needs --out")
    if language:
        code(language)
    if out is None:  # a folder that is complete needs no model any more
        require(model)
    everything = find(inputs, roots) if out is None else None
    if everything is not None:
        _require_printable(everything, chosen, as_json)
    from serve.batch.job import BatchJob

    job = BatchJob(
        inputs, out or "", chosen, config, language, task, prompt, words, overwrite, sound, roots, keywords or ()
    )
    if everything is None:
        _write(job, address, as_json)
    else:
        _print(job, everything, as_json)


def _write(job: BatchJob, address: str | None, as_json: bool) -> None:
    """Transcribe through Ray into a folder, and end with one line."""
    from serve.batch.run import transcribe_all  # and with it Ray Data: a second that printing does not need

    with termination.telling(lambda: ": the same command goes on with what is missing"), shown() as on_progress:
        summary = transcribe_all(job, address, on_progress)
    for note in summary.notes:
        typer.echo(note, err=True)
    if as_json:
        typer.echo(json.dumps(asdict(summary) | {"out": job.out}, ensure_ascii=False))
    else:
        speed = f", {summary.audio_s / summary.seconds:.1f} audio s/s" if summary.seconds else ""
        skipped = f", {summary.skipped} were there" if summary.skipped else ""
        failed = f", {summary.failed} failed" if summary.failed else ""
        warned = f", {summary.warned} with warnings" if summary.warned else ""
        named = f": {storage.join(job.out, FAILURES)}" if failed or warned else ""
        audio = f"{summary.audio_s / 3600.0:.2f} h of audio{speed}"
        left_out = sum(summary.not_audio.values())
        others = f", {left_out} other {'file is' if left_out == 1 else 'files are'} not audio" if left_out else ""
        counts = f"{summary.transcribed} of {summary.files} files transcribed"
        computed = f" ({summary.computed})" if summary.computed else ""
        typer.echo(f"{job.out}: {counts}, {audio}{skipped}{failed}{warned}{named}{others}{computed}")
    if summary.failed:
        raise typer.Exit(1)


def _require_printable(everything: FoundInputs, formats: list[Format], as_json: bool) -> None:
    """Raise UserError for what cannot be printed, or is not there: before a model is loaded."""
    (form, *more), found = formats, everything.inputs
    if more or (form != Format.TXT and len(found) > 1 and not as_json):
        raise UserError("several files or formats cannot be printed as one", "name a folder with --out")
    if as_json and form in (Format.SRT, Format.VTT):
        raise UserError(f"--json prints no {form.value}", "leave one of both out, or name a folder with --out")
    if found and all(_is_gone(one.address) for one in found):
        raise UserError("\n".join(f"{one.address}: no such file" for one in found))


def _is_gone(address: str) -> bool:
    """Return whether a local file does not exist, which needs no model to be told."""
    return not storage.is_remote(address) and not storage.kind(address)


def _print(job: BatchJob, everything: FoundInputs, as_json: bool) -> None:
    """Transcribe in this process, without Ray, and print each file when it is transcribed."""
    (form,), found = job.formats, everything.inputs
    if str(everything):
        typer.echo(str(everything), err=True)
    job.check()
    from asr.inference.transcribe import Transcription, transcribe_recording
    from serve.batch.window_task import LIMITS
    from serve.replica.engine_loader import load_engine

    engine = load_engine(job.config)
    typer.echo(f"{job.config.model}: {engine.info.computed}", err=True)
    options = job.options(engine.info)
    faults = []
    for one in found:
        begun = time.monotonic()
        try:
            recording = transcribe_recording(engine, one.address, options, LIMITS, job.sound)
        except DataError as error:  # the other files are still transcribed, but the command does not end well
            faults.append(error.detail or f"{one.address}: {error.reason}")
            continue
        if as_json:
            seconds = time.monotonic() - begun
            row = asdict(Transcription.of(one.address, recording, seconds))
            if form == Format.JSON:  # with segments, and words
                row |= json.loads(document(recording, form, job.task, job.words))
            typer.echo(json.dumps(row, ensure_ascii=False))
        else:
            for warning in recording.sound.warnings if recording.sound else ():
                typer.echo(f"{one.address}: {warning}", err=True)
            text = document(recording, form, job.task, job.words)
            typer.echo(text if len(found) == 1 else f"{one.address}: {text}", nl=False)
    if faults:
        raise UserError("\n".join(faults))
