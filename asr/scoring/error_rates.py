"""Word and character error rates of transcripts, with bootstrap intervals, from the counts of the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from asr.errors import UserError
from asr.scoring.edits import AlignedSpan, EditCounts, align_words, count
from asr.scoring.normalizer import Normaliser, normalise

Unit = Literal["word", "character"]

_NAMES: dict[Unit, str] = {"word": "wer", "character": "cer"}


@dataclass(frozen=True)
class UtteranceScore:
    """The edits of one utterance after normalisation, and the alignment of its words."""

    words: EditCounts
    alignment: list[AlignedSpan]


@dataclass(frozen=True)
class Score:
    """An error rate over a set of utterances; ``low`` and ``high`` bound its 95 % bootstrap interval."""

    counts: EditCounts
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.counts.rate


@dataclass(frozen=True)
class SilenceScore:
    """Words that were invented for clips in which nobody speaks: in so many of them, in so many seconds."""

    words: int
    clips_with_words: int
    clips: int
    audio_s: float

    @property
    def words_per_min(self) -> float:
        """Words in a minute of such clips."""
        return 60 * self.words / self.audio_s if self.audio_s else 0.0

    def __str__(self) -> str:
        clips = f"{self.clips} clip{'s' * (self.clips != 1)} without words"
        return f"{self.words} in {self.clips_with_words} of {clips}, {self.words_per_min:.1f} a minute"


def has_words(reference: str) -> bool:
    """Return whether anything is left of a reference to compare with: of ``...`` and ``♪`` there is nothing."""
    return bool(normalise(reference))


def score_silence(hypotheses: Sequence[str], durations_s: Sequence[float], language: str | None = None) -> SilenceScore:
    """Count the normalised words of transcripts of clips without any; each of them was invented."""
    words = [len(normalise(hypothesis, "normalised", language).split()) for hypothesis in hypotheses]
    return SilenceScore(sum(words), sum(map(bool, words)), len(words), sum(durations_s))


def score_utterance(
    reference: str, hypothesis: str, normaliser: Normaliser = "normalised", language: str | None = None
) -> UtteranceScore:
    """Normalise both texts and count their edits. A reference that is empty then makes each word an insertion."""
    reference = normalise(reference, normaliser, language)
    hypothesis = normalise(hypothesis, normaliser, language)
    alignment = align_words(reference, hypothesis)
    return UtteranceScore(count(alignment), alignment)


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    normaliser: Normaliser = "normalised",
    language: str | None = None,
    unit: Unit = "word",
) -> Score:
    """Return the error rate of parallel transcripts. For a language written without spaces, ask for characters.

    Raises ValueError where the numbers of texts differ, UserError where there is none.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, but {len(hypotheses)} hypotheses")
    if not references:
        raise UserError("there is no utterance to score", "was every row of the test set quarantined?")
    from asr.scoring.metrics import load  # two seconds: evaluate and datasets

    with load(_NAMES[unit]) as metric:
        told = metric.compute(
            predictions=hypotheses, references=references, normaliser=normaliser, language=language, interval=True
        )
    counts = EditCounts(**{field.name: told[field.name] for field in fields(EditCounts)})
    return Score(counts, told["low"], told["high"])
