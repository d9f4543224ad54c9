"""The evaluation report: one HTML file that needs no script, no font and no host, to be mailed, printed or archived."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from asr import language
from asr.naming import short_names
from asr.quarantine import by_reason
from asr.scoring.edits import AlignedSpan, EditCounts, Operation
from asr.scoring.error_rates import Score
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.utterance import Quarantined

WORST = 20
# A hypothesis that fell into a loop runs to hundreds of words and would bury the others.
MAX_CELLS = 60
_MAX_BINS = 20
_BIN_WIDTHS_S = (0.25, 0.5, 1, 2, 5, 10, 30, 60)
_THIN_SPACE = "\u202f"


@dataclass(frozen=True)
class Bar:
    """An error rate drawn to scale; positions are percent of the width of the plot."""

    label: str
    score: Score
    end: float
    low: float
    high: float
    clipped: bool


@dataclass(frozen=True)
class Chart:
    """The bars of one error rate, a bar for each evaluation, and the percentage at the right edge."""

    title: str
    note: str
    bars: list[Bar]


@dataclass(frozen=True)
class Cell:
    """A word of the reference above the word of the transcript; either is empty if there is none."""

    operation: Operation
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class WorstUtterance:
    """An utterance, its word edits and the first ``MAX_CELLS`` words of its alignment."""

    result: UtteranceResult
    counts: EditCounts
    cells: list[Cell]
    hidden: int


@dataclass(frozen=True)
class Bin:
    """Utterances of ``start_s`` up to ``end_s`` seconds; position and height are percent of the plot."""

    start_s: float
    end_s: float
    count: int
    x: float
    width: float
    height: float


def write_report(
    path: Path,
    evaluations: Sequence[Evaluation],
    title: str,
    details: Mapping[str, str],
    quarantined: Sequence[Quarantined] = (),
) -> None:
    """Write the report of several evaluations of the same clips, in the order they are to be read: before, then after.

    Utterances and durations shown are those of the last evaluation; ``quarantined`` are the rows that could not be
    scored. A checkpoint that is a path is named by its run. ``details`` ends the page: checkpoint, versions, settings.
    Raises ValueError without evaluations, UserError where one holds no results.
    """
    if not evaluations:
        raise ValueError("a report needs at least one evaluation")
    last = evaluations[-1]
    names = _names(evaluations)
    labels = [f"{name}, {one.context} context" for name, one in zip(names, evaluations, strict=True)]
    page = template("report.html.j2").render(
        title=title,
        evaluations=evaluations,
        names=names,
        paths={name: one.checkpoint for name, one in zip(names, evaluations, strict=True) if name != one.checkpoint},
        silence=any(one.silence for one in evaluations),
        invented=_invented(last),
        quarantined=len(quarantined),
        reasons=by_reason(quarantined),
        first=evaluations[0],
        last=last,
        charts=charts(labels, evaluations),
        worst=_worst(last),
        worst_limit=WORST,
        faulty=sum(one.words.errors > 0 for one in last.scored),
        bins=histogram([one.duration_s for one in last.results]),
        median_s=median(one.duration_s for one in last.results),
        longest_s=max(one.duration_s for one in last.results),
        unspaced=last.language in language.UNSPACED,
        language_name=language.name(last.language) if last.language else "detected by the model",
        details=details,
    )
    path.write_text(page, encoding="utf-8")


def template(name: str, **filters: Callable[[float], str]) -> Template:
    """Return a page's template, which escapes whatever is put into it. ``filters`` are those that it has of its own."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": duration, **filters}
    return environment.get_template(name)


def percent(rate: float) -> str:
    """Return a rate as ``28.6 %``."""
    return f"{rate * 100:.1f}{_THIN_SPACE}%"


def with_interval(score: Score) -> str:
    """Return a rate and its interval as ``6.7 % (3.8 % to 10.8 %)``."""
    return f"{percent(score.rate)} ({percent(score.low)} to {percent(score.high)})"


def duration(seconds: float) -> str:
    """Return seconds in the unit a person would choose: ``4.2 s``, ``12.3 min``, ``7.5 h``."""
    divisor, unit = (1, "s") if seconds < 90 else (60, "min") if seconds < 5400 else (3600, "h")
    return f"{seconds / divisor:.1f}{_THIN_SPACE}{unit}"


def histogram(durations_s: Sequence[float]) -> list[Bin]:
    """Count durations in bins of one round width, the narrowest that needs at most twenty. Empty bins are kept."""
    longest = max(durations_s)
    width_s = next(
        (width for width in _BIN_WIDTHS_S if longest < width * _MAX_BINS), math.ceil(longest / _MAX_BINS + 1)
    )
    counts = [0] * (int(longest / width_s) + 1)
    for one in durations_s:
        counts[int(one / width_s)] += 1
    width = 100 / len(counts)
    return [
        Bin(index * width_s, (index + 1) * width_s, count, index * width, width, 100 * count / max(counts))
        for index, count in enumerate(counts)
    ]


def _names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return a name for each evaluation's checkpoint; numbered where one was evaluated twice in the same context."""
    short = short_names([one.checkpoint for one in evaluations])
    shown = Counter((one.checkpoint, one.context) for one in evaluations)
    met: Counter[tuple[str, str]] = Counter()
    names = []
    for one in evaluations:
        key = (one.checkpoint, one.context)
        met[key] += 1
        names.append(short[one.checkpoint] + (f" ({met[key]})" if shown[key] > 1 else ""))
    return names


def _invented(evaluation: Evaluation) -> list[UtteranceResult]:
    """Return the clips without words in which most words were found."""
    hallucinated = [one for one in evaluation.silence if one.hypothesis.strip()]
    return sorted(hallucinated, key=lambda one: (-len(one.hypothesis.split()), one.id))[:WORST]


def charts(labels: Sequence[str], evaluations: Sequence[Evaluation]) -> list[Chart]:
    """Return the three error rates drawn to one scale, a bar for each evaluation under its label."""
    rates = {
        "Word error rate": ("case and punctuation ignored", [one.wer for one in evaluations]),
        "Orthographic word error rate": ("case and punctuation count", [one.wer_ortho for one in evaluations]),
        "Character error rate": ("case and punctuation ignored", [one.cer for one in evaluations]),
    }
    # One scale for all three. It ends at 100 %: a model that loops scores 500 %, and would flatten every other bar.
    scale = min(max(score.high for _, scores in rates.values() for score in scores), 1.0) or 1.0
    return [
        Chart(title, note, [_bar(label, score, scale) for label, score in zip(labels, scores, strict=True)])
        for title, (note, scores) in rates.items()
    ]


def _bar(label: str, score: Score, scale: float) -> Bar:
    end, low, high = (min(100 * value / scale, 100.0) for value in (score.rate, score.low, score.high))
    return Bar(label, score, end, low, high, clipped=score.high > scale)


def _worst(evaluation: Evaluation) -> list[WorstUtterance]:
    faulty = [pair for pair in zip(evaluation.results, evaluation.scored, strict=True) if pair[1].words.errors]
    faulty.sort(key=lambda pair: (-pair[1].words.errors, -pair[1].words.rate, pair[0].id))
    worst = []
    for result, scored in faulty[:WORST]:
        cells = [cell for span in scored.alignment for cell in _cells(span)]
        worst.append(WorstUtterance(result, scored.words, cells[:MAX_CELLS], len(cells[MAX_CELLS:])))
    return worst


def _cells(span: AlignedSpan) -> list[Cell]:
    size = max(len(span.reference), len(span.hypothesis))
    reference = span.reference or ("",) * size
    hypothesis = span.hypothesis or ("",) * size
    return [Cell(span.operation, said, found) for said, found in zip(reference, hypothesis, strict=True)]
