"""Word and character error rates of transcripts, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from asr.edits import AlignedSpan, EditCounts, align_characters, align_words, count
from asr.errors import UserError
from asr.text import Normaliser, normalise

Unit = Literal["word", "character"]

# Resamples are drawn in blocks of so many utterance indices (32 MB), so that memory does not grow with the test set.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class UtteranceScore:
    """The edits of one utterance after normalisation, and which word met which."""

    words: EditCounts
    characters: EditCounts
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
    """Words that were heard in clips in which nobody speaks: in so many of them, in so many seconds."""

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
    return UtteranceScore(count(alignment), count(align_characters(reference, hypothesis)), alignment)


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
    pairs = zip(references, hypotheses, strict=True)
    scored = [score_utterance(reference, hypothesis, normaliser, language) for reference, hypothesis in pairs]
    return pool([one.words if unit == "word" else one.characters for one in scored])


def pool(counts: Sequence[EditCounts]) -> Score:
    """Return the error rate over utterances that were counted one by one. Raises UserError where there is none."""
    low, high = bootstrap_interval(counts)
    return Score(sum(counts, EditCounts()), low, high)


def bootstrap_interval(
    counts: Sequence[EditCounts], seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the bounds of a percentile interval of the pooled rate, from ``resamples`` draws of whole utterances.

    Utterances are what is independent, not words (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR
    performance evaluation", ICASSP 2004). The same counts in the same order give the same bounds.
    Raises UserError where there is no utterance.
    """
    if not counts:
        raise UserError("there is no utterance to score", "was every row of the test set quarantined?")
    errors = np.array([one.errors for one in counts])
    lengths = np.array([one.reference_length for one in counts])
    generator = np.random.default_rng(seed)
    rates = np.empty(resamples)
    step = max(1, _BLOCK // len(counts))
    for start in range(0, resamples, step):
        block = rates[start : start + step]
        drawn = generator.integers(len(counts), size=(len(block), len(counts)))
        block[:] = errors[drawn].sum(axis=1) / np.maximum(lengths[drawn].sum(axis=1), 1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return float(low), float(high)
