"""Compares models on one test set: each in a process of its own, on the same utterances, resumable."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from asr.audio.features import Context
from asr.errors import UserError
from asr.io.unretryable import writing
from asr.scoring.comparison import Measured, ModelComparison
from asr.scoring.comparison_report import write_comparison_report
from asr.utterance import Utterance
from train.evaluation.candidate import Candidate, named
from train.evaluation.common_set import CommonSet, common_set
from train.evaluation.measuring import Advance, Measurement, measured_apart, reordered

KEPT = "models"  # the folder, in that of the report, of the results of each model
_FORMAT = 1  # counts the changes to what is kept: an older result is not used
_AGAIN = "give the same command again"

Counting = Callable[[str], AbstractContextManager[Advance]]


def compare(
    models: Sequence[Candidate],
    utterances: Sequence[Utterance],
    language: str | None,
    counting: Counting,
    out: Path | None = None,
) -> ModelComparison:
    """Decode the utterances that every model takes with each of the models, one after the other, and score them.

    ``language`` is for rows that name none; without either an artifact's holds, and at last a model detects it.
    ``counting`` shows how far what it is given is. What is done is kept in ``out``: asked again, with the same models,
    words, samples and options, it is not done again. Raises UserError where no utterance is left, and where a model
    fails, whose name it tells.
    """
    with counting("decoding audio") as advance:
        common = common_set(utterances, models, language, advance)
    ids = [utterance.id for utterance in utterances]
    scored_as = _scored_as(common, models, language)
    met: Counter[tuple[str, Context | None]] = Counter()
    results = []
    for model in models:
        task = Measurement(model.name, common.clips, common.window_s, model.context, language, scored_as)
        key = _key(model, task, common.fingerprint, met[model.name, model.context])
        met[model.name, model.context] += 1
        kept = out / KEPT / f"{key}.json" if out is not None else None
        measured = Measured.load(kept) if kept is not None else None
        if measured is None:
            measured = reordered(_measured(task, counting), ids)
            if kept is not None:
                with writing(kept, then=_AGAIN):
                    measured.save(kept)
        results.append(replace(measured, digest=model.digest))  # that of its weights is also that of others
    return ModelComparison(results, common.quarantined)


def _measured(task: Measurement, counting: Counting) -> Measured:
    try:
        with counting(f"transcribing with {task.model}") as advance:
            return measured_apart(task, advance)
    except UserError as error:
        raise named(task.model, error) from None


def _scored_as(common: CommonSet, models: Sequence[Candidate], language: str | None) -> str | None:
    """Return the one language of the test set: the one asked for, or that of all rows, or of all artifacts."""
    rows = {clip.utterance.language for clip in common.clips}
    told = rows if rows != {None} else {model.language for model in models} - {None}
    return language or (told.pop() if len(told) == 1 else None)


def _key(model: Candidate, task: Measurement, fingerprint: str, time: int) -> str:
    """Return a name for a result: another one where anything that it depends on is another."""
    options = [task.context, task.language, task.scored_as]
    told = [_FORMAT, model.name, model.identity, *options, fingerprint, time]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def write(out: Path, comparison: ModelComparison, title: str, details: Mapping[str, str]) -> Path | None:
    """Write comparison.json, table.csv and report.html into a folder, and return the path of the report.

    Of clips without words there is nothing to draw: no report is there then, nor one of another comparison.
    """
    comparison.save(out / "comparison.json", dict(details))
    comparison.write_table(out / "table.csv")
    report = out / "report.html"
    if not comparison.first.results:
        report.unlink(missing_ok=True)
        return None
    write_comparison_report(report, comparison, title, details)
    return report
