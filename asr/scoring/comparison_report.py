"""The comparison report: one HTML file, like that of an evaluation, with the models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asr import language
from asr.quarantine import by_reason
from asr.scoring.comparison import TOLD, ModelComparison
from asr.scoring.disagreement import MarkedWord, marked
from asr.scoring.evaluation import UtteranceResult
from asr.scoring.report import MAX_CELLS, charts, template

_SPELLINGS = 40


@dataclass(frozen=True)
class ModelsWords:
    """A model's transcript of an utterance, word by word, its errors, and how many words are not shown."""

    name: str
    errors: int
    words: list[MarkedWord]
    hidden: int


@dataclass(frozen=True)
class SideBySide:
    """An utterance with the words of each model."""

    result: UtteranceResult
    words_apart: int
    models: list[ModelsWords]

    @property
    def how(self) -> str:
        """The difference of the two models that differ most, in words."""
        if not self.words_apart:
            return "case or punctuation"
        return f"{self.words_apart} word{'s' * (self.words_apart != 1)} apart"


def write_comparison_report(path: Path, comparison: ModelComparison, title: str, details: Mapping[str, str]) -> None:
    """Write the report of a comparison. ``details`` ends the page. Raises UserError where no reference has words."""
    first = comparison.first
    evaluations = [one.evaluation for one in comparison.models]
    page = template("comparison.html.j2", points=points).render(
        title=title,
        comparison=comparison,
        rows=list(zip(comparison.names, comparison.models, strict=True)),
        first=first,
        reasons=by_reason(comparison.quarantined),
        charts=charts(comparison.names, evaluations),
        shown=side_by_side(comparison, TOLD),
        in_words=sum(one.words > 0 for one in comparison.disagreements),
        spellings=[one for one in comparison.spellings if one.reference][:_SPELLINGS],
        invented=[one for one in range(len(first.silence)) if _any_words(comparison, one)][:TOLD],
        unspaced=first.language in language.UNSPACED,
        language_name=language.name(first.language) if first.language else "as each row says, or detected",
        shown_most=TOLD,
        details=details,
        size=size,
        number=number,
    )
    path.write_text(page, encoding="utf-8")


def side_by_side(comparison: ModelComparison, most: int) -> list[SideBySide]:
    """Return the utterances on which the models differ most, at most so many."""
    found = []
    for one in comparison.disagreements[:most]:
        models = []
        for name, each in zip(comparison.names, comparison.models, strict=True):
            result, scored = each.evaluation.results[one.place], each.evaluation.scored[one.place]
            words = marked(result.reference, result.hypothesis, each.evaluation.language)
            models.append(ModelsWords(name, scored.words.errors, words[:MAX_CELLS], len(words[MAX_CELLS:])))
        found.append(SideBySide(comparison.first.results[one.place], one.words, models))
    return found


def points(difference: float) -> str:
    """Return a difference of two rates in percentage points: ``+1.2``, ``−0.4``, ``0.0``."""
    told = f"{100 * difference:+.1f}"
    return "0.0" if float(told) == 0 else told.replace("-", "−")


def size(num_bytes: int) -> str:
    """Return a number of bytes as ``290 MB`` or ``3.1 GB``."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def number(count: int) -> str:
    """Return a number of parameters as ``72.6 M`` or ``1.55 G``."""
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"


def _any_words(comparison: ModelComparison, place: int) -> bool:
    return any(each.evaluation.silence[place].hypothesis.strip() for each in comparison.models)
