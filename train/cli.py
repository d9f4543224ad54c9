"""The options of ``train`` and ``evaluate``.

What does the work is imported once the options are read: with it come torch, transformers and Ray, seconds that a help
text, a mistake in a configuration and a dry run need not wait for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from asr.config import Resolved, resolve
from asr.data.manifest import write_quarantine
from asr.data.sources.detect import require
from asr.imports import lasting_imports
from asr.io import storage
from asr.io.folders import require_writable
from asr.io.unretryable import writing
from asr.language import code_or_none
from asr.models.checkpoint import require as require_checkpoint
from asr.naming import short_names
from asr.quarantine import by_reason
from asr.scoring.diagnosis import explain
from asr.scoring.evaluation import Evaluation
from asr.scoring.report import with_interval, write_report
from asr.utterance import Quarantined
from train.config import TrainConfig
from train.console import counting, ended, interruptible, training
from train.data.cli import AudioRoot, Column, Config, Delimiter, Format, Header, Split, source_of
from train.evaluation.options import ContextName, Json, Language, Manifest, context_of, given_rows
from train.trainer.deepspeed import derive
from train.trainer.strategy import leave_out_unless_quantised

if TYPE_CHECKING:
    from train.sweep.record import SweepRecord
    from train.sweep.trials import Trial

Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings over the file's.")]


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/.")],
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print each setting and its origin; stop.")] = False,
    address: Annotated[str | None, typer.Option(help="Ray cluster (auto, host:port); default: a local one.")] = None,
    varied: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="FILE|KEY=VALUES", help="Several runs, lora.rank='choice(8, 16)' trials=4."),
    ] = None,
    as_json: Json = False,
) -> None:
    resolved = resolve(TrainConfig, config, settings or [])
    if varied:
        from train.sweep.space import resolve_sweep
        from train.sweep.trials import make_trials

        asked = resolve_sweep(varied)
        trials = make_trials(asked, config, settings or [])
        if dry_run:
            _show_trials(trials, as_json)
            return
        for trial in trials:
            require_checkpoint(trial.config.base)
        require(resolved.value.data.read)
        with lasting_imports():
            from train.sweep.sweep import sweep

        with interruptible():
            record = sweep(resolved.value, asked, trials, address)
        _show_sweep(record, as_json)
        return
    if dry_run:
        show_settings(resolved, as_json)
        return
    require_checkpoint(resolved.value.base)
    require(resolved.value.data.read)
    with lasting_imports():
        leave_out_unless_quantised(resolved.value.strategy)
        from train.capacity.cost import described
        from train.run.fit import fit

    with training() as on_progress:
        fitted = fit(resolved.value, on_progress, address)
    account = fitted.card.training
    if as_json:
        print(json.dumps({"artifact": str(fitted.artifact), **account}))
        return
    print(f"{ended(account)}\n{described(account['cost'])}\nartifact: {fitted.artifact}")


def _show_trials(trials: Sequence[Trial], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"trials": [{"trial": trial.name, "settings": trial.settings} for trial in trials]}))
        return
    print("\n".join(trial.label for trial in trials))


def _show_sweep(record: SweepRecord, as_json: bool) -> None:
    from train.sweep import results

    found = results.summary(record)
    if as_json:
        print(json.dumps(found))
        return
    Console(markup=False).print(results.table(record))
    print(f"best: trial {found['best']['trial']}, WER {found['best']['wer']:.1%}: {found['best']['artifact']}")


def show_settings(resolved: Resolved[TrainConfig], as_json: bool) -> None:
    """Print each leaf of the configuration with its value and origin, and what DeepSpeed is told."""
    rows = list(resolved.rows())
    deepspeed = derive(resolved.value, resolved.value.workers.most)
    if as_json:
        settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
        print(json.dumps({"settings": settings, "deepspeed": deepspeed}))
        return
    table = Table("setting", "value", "from")
    for key, value, origin in rows:
        table.add_row(key, json.dumps(value, ensure_ascii=False), origin, style="" if origin == "default" else "bold")
    Console(markup=False).print(table)
    if deepspeed is not None:
        print(f"DeepSpeed, derived from these:\n{json.dumps(deepspeed, indent=2)}")


_AGAIN = "give the same command again"


def evaluate(  # noqa: PLR0913 - the options of a verb
    model_name: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder, artifact or builtin:base.")],
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
    greedy: Annotated[bool, typer.Option("--greedy", help="Without the n-grams that a CTC model decodes by.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, table.csv and evaluation.json.")] = None,
    as_json: Json = False,
) -> None:
    wanted = context_of(context)
    require_checkpoint(model_name)
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
    spoken = code_or_none(language)
    if out is not None:
        with writing(out, then=_AGAIN):
            require_writable(out)
    with lasting_imports():
        from asr.models.artifact import load_model
        from asr.models.family import best_device
        from asr.models.letters import require_letters
        from train.evaluation.offline import evaluate as evaluate_model

    model = load_model(model_name, best_device())
    if greedy:
        model = model.family.without_language_model(model)
    lacking = require_letters(model.processor, given.utterances, model_name)
    with counting("transcribing") as advance:
        done = evaluate_model(model, given.utterances, wanted, spoken, advance)
    evaluation, quarantined = done.evaluation, [*given.unread, *done.quarantined]
    why = [*filter(None, [lacking]), *(explain(evaluation) if evaluation.results else [])]
    if out is not None:
        details = {
            "checkpoint": model.name,
            "digest": model.digest,
            "manifest": str(manifest),
            "errors": "; ".join(why),
        }
        details |= {"decoding": "greedy, without n-grams"} if greedy else {}
        with writing(out, then=_AGAIN):
            evaluation.save(out / "evaluation.json")
            evaluation.write_table(out / "table.csv")
            write_quarantine(out / "quarantine.parquet", quarantined)
            if evaluation.results:  # there is nothing to draw of silence alone
                title = f"{short_names([model.name])[model.name]} on {storage.name_of(str(manifest))}"
                write_report(out / "report.html", [evaluation], title, details, quarantined)
    if as_json:
        reasons = [asdict(reason) for reason in by_reason(quarantined)]
        counts = {"rows": given.count, "quarantined": len(quarantined), "quarantine": reasons}
        print(json.dumps(evaluation.summary() | counts | {"errors": why} | ({"greedy": True} if greedy else {})))
        return
    _show_evaluation(evaluation, quarantined, why)


def _show_evaluation(evaluation: Evaluation, quarantined: Sequence[Quarantined], why: Sequence[str]) -> None:
    if evaluation.results:
        scores = {"WER": evaluation.wer, "WER, orthographic": evaluation.wer_ortho, "CER": evaluation.cer}
        for name, score in scores.items():
            print(f"{name}: {with_interval(score)}")
    else:
        print("no error rate: no reference has words")
    if evaluation.silence:
        print(f"words on silence: {evaluation.on_silence}")
    for line in evaluation.warnings:
        print(f"warning: {line}")
    for line in why:
        print(line)
    clips, silent, unused = len(evaluation.results), len(evaluation.silence), len(quarantined)
    print(
        f"{clips + silent + unused} rows: {clips} clips scored, {silent} without words, {unused} in quarantine; "
        f"{evaluation.speed:.1f} audio s/s"
    )
    if quarantined:
        table = Table("in quarantine", "rows", "for example", box=None, pad_edge=False)
        for reason in by_reason(quarantined):
            example = f"{reason.example}: {reason.detail}" if reason.detail else reason.example
            table.add_row(reason.reason, f"{reason.rows:,}", example)
        Console(markup=False, highlight=False).print(table)
