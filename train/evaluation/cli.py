"""The options of ``compare``. What does the work is imported once they are read, as in ``train.cli``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr.data.manifest import write_quarantine
from asr.errors import UserError
from asr.imports import lasting_imports
from asr.io import storage
from asr.io.folders import require_writable
from asr.io.unretryable import writing
from asr.language import code_or_none
from asr.models.checkpoint import require as require_checkpoint
from asr.quarantine import by_reason
from cluster import termination
from train.console import counting
from train.data.cli import AudioRoot, Column, Config, Delimiter, Format, Header, Split, source_of
from train.evaluation.options import ContextName, Json, Language, Manifest, context_of, given_rows

if TYPE_CHECKING:
    from asr.scoring.comparison import Measured, ModelComparison
    from asr.scoring.comparison_report import ModelsWords
    from asr.scoring.error_rates import Score
    from asr.scoring.orthography import Recall

_AGAIN = "give the same command again"
_SHOWN = 3  # utterances on the terminal
_STYLES = {"substitute": "yellow underline", "delete": "red strike", "insert": "green underline", "spelling": "dim"}


def compare(  # noqa: PLR0913 - the options of a verb
    models: Annotated[list[str], typer.Argument(metavar="MODEL MODEL...", help="Each as `evaluate` takes one.")],
    manifest: Manifest,
    format: Format = "auto",
    config: Config = None,
    split: Split = None,
    column: Column = None,
    delimiter: Delimiter = None,
    header: Header = None,
    audio_root: AudioRoot = None,
    language: Language = None,
    context: ContextName = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, comparison.json and table.csv.")] = None,
    as_json: Json = False,
) -> None:
    wanted, spoken = context_of(context), code_or_none(language)
    if len(models) < 2:
        raise UserError(f"only one model is named: {models[0]}", "name two or more, or use `evaluate`")
    for name in models:
        require_checkpoint(name)
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
    given = given_rows(source)
    if out is not None:
        with writing(out, then=_AGAIN):
            require_writable(out)
    with lasting_imports():
        from asr.scoring.comparison import ModelComparison
        from train.evaluation.candidate import candidates
        from train.evaluation.compare import compare as compare_models
        from train.evaluation.compare import write

    kept = "the same command goes on with the models that are left" if out else "with --out, the next one could go on"
    with termination.telling(lambda: f": {kept}"):
        found = compare_models(candidates(models, wanted), given.utterances, spoken, counting, out)
    comparison = ModelComparison(found.models, [*given.unread, *found.quarantined])
    details = {"manifest": str(manifest), "language": language or "as rows say", "context": context}
    report = None
    if out is not None:
        with writing(out, then=_AGAIN):
            write_quarantine(out / "quarantine.parquet", comparison.quarantined)
            report = write(out, comparison, f"{len(models)} models on {storage.name_of(str(manifest))}", details)
    if as_json:
        print(json.dumps({**details, "rows": given.count, **comparison.summary()}))
        return
    show(comparison)
    if out is not None:
        print(f"report: {report}" if report else f"no report, as no reference has words: see {out / 'table.csv'}")


def show(comparison: ModelComparison) -> None:
    """Print a table of the models, which differences are certain, and the utterances that differ most."""
    from asr.scoring.comparison_report import points, side_by_side

    console = Console(markup=False, highlight=False)
    table = Table("", *comparison.names)
    for label, tell in _ROWS.items():
        table.add_row(label, *map(tell, comparison.models))
    console.print(table)
    for each in comparison.differences:
        interval = f"{points(each.low)} to {points(each.high)} points"
        console.print(f"{each.finding} (WER {points(each.difference)}, {interval})", soft_wrap=True)
    first, unused = comparison.first, len(comparison.quarantined)
    scored, silent = len(first.results), len(first.silence)
    counted = f"{scored + silent + unused} rows: {scored} clips scored, {silent} without words, {unused} in quarantine"
    console.print(counted)
    for reason in by_reason(comparison.quarantined):
        told = f"  {reason.reason}: {reason.rows}, for example {reason.example}: {reason.detail}"
        console.print(told, soft_wrap=True)
    in_words = sum(one.words > 0 for one in comparison.disagreements)
    console.print(f"clips on which the models differ: {len(comparison.disagreements)}, of these in words: {in_words}")
    for utterance in side_by_side(comparison, _SHOWN):
        lines = Table("", "", box=None, show_header=False, pad_edge=False)
        lines.add_row("reference", utterance.result.reference)
        for model in utterance.models:
            lines.add_row(model.name, _words(model))
        console.print(f"\n{utterance.result.id}: {utterance.how}")
        console.print(lines)


def _rate(score: Score | None) -> str:
    from asr.scoring.report import percent

    return "–" if score is None else f"{percent(score.rate)} ({100 * score.low:.1f} to {100 * score.high:.1f})"


def _recall(recall: Recall | None) -> str:
    from asr.scoring.report import percent

    return "–" if recall is None else f"{percent(recall.share)} of {recall.total}"


def _memory(one: Measured) -> str:
    from asr.scoring.comparison_report import size

    return size(one.peak_bytes) + (f", GPU {size(one.peak_gpu_bytes)}" if one.peak_gpu_bytes is not None else "")


def _weights(one: Measured) -> str:
    from asr.scoring.comparison_report import number, size

    return f"{number(one.parameters)}, {size(one.weights_bytes)}"


_ROWS: dict[str, Callable[[Measured], str]] = {
    "WER": lambda one: _rate(one.evaluation.wer if one.evaluation.results else None),
    "orthographic": lambda one: _rate(one.evaluation.wer_ortho if one.evaluation.results else None),
    "CER": lambda one: _rate(one.evaluation.cer if one.evaluation.results else None),
    "capitals": lambda one: _recall(one.orthography.casing),
    "punctuation": lambda one: _recall(one.orthography.punctuation),
    "audio s/s": lambda one: f"{one.evaluation.speed:.1f}",
    "peak memory": _memory,
    "parameters": _weights,
}


def _words(model: ModelsWords) -> Text:
    """Return a transcript; what it has left out is struck through, and in brackets where there are no styles."""
    shown = Text()
    for word in model.words:
        text = f"[{word.text.rstrip()}] " if word.mark == "delete" else word.text
        shown.append(text, style=_STYLES.get(word.mark, ""))
    if model.hidden:
        shown.append(f" and {model.hidden} more words", style="dim")
    return shown
