"""Casing and punctuation of transcripts: how much of the reference's a model writes, whatever words it gets wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from asr.parsed import JsonObject
from asr.scoring.bootstrap import bootstrap_interval
from asr.scoring.edits import EditCounts
from asr.scoring.written_text import WrittenText, align_written, written


@dataclass(frozen=True)
class Recall:
    """The share of what the references have that was written: ``right`` of ``total``, with its 95 % interval."""

    right: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.right / self.total

    def as_json(self) -> JsonObject:
        """Return the share, its interval and its counts."""
        return {"share": self.share, "low": self.low, "high": self.high, "right": self.right, "total": self.total}


@dataclass(frozen=True)
class Orthography:
    """Casing and punctuation over a set of utterances; None where the references have none, as in Thaana or Thai.

    ``casing`` is of the words with a capital in the reference that were transcribed, in whatever case: the share of
    them with every letter in the right case. ``punctuation`` is of the marks in the references: the share of them that
    stand in the transcript at the same word.
    """

    casing: Recall | None
    punctuation: Recall | None


def score_orthography(references: Sequence[str], hypotheses: Sequence[str], language: str | None = None) -> Orthography:
    """Score parallel transcripts. ``language`` is for the normaliser, by which words are aligned."""
    casing: list[tuple[int, int]] = []
    punctuation: list[tuple[int, int]] = []
    for said, heard in zip(references, hypotheses, strict=True):
        reference, hypothesis = written(said, language), written(heard, language)
        places = [
            (one.reference, one.hypothesis)
            for one in align_written(reference, hypothesis)
            if one.reference is not None and one.hypothesis is not None
        ]
        casing.append(_casing(reference, hypothesis, places))
        punctuation.append(_punctuation(reference, hypothesis, places))
    return Orthography(_recall(casing), _recall(punctuation))


def _recall(counts: Sequence[tuple[int, int]]) -> Recall | None:
    counted = [EditCounts(hits=right, deletions=total - right) for right, total in counts if total]
    if not counted:
        return None
    low, high = bootstrap_interval(counted)
    together = sum(counted, EditCounts())
    return Recall(together.hits, together.reference_length, 1 - high, 1 - low)


def _casing(reference: WrittenText, hypothesis: WrittenText, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    right = total = 0
    for one, other in places:
        if reference.words[one] == hypothesis.words[other] and _has_capital(reference.spelled[one]):
            total += 1
            right += reference.spelled[one] == hypothesis.spelled[other]
    return right, total


def _has_capital(word: str) -> bool:
    return any(letter.isupper() or letter.istitle() for letter in word)


def _punctuation(reference: WrittenText, hypothesis: WrittenText, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Count marks found behind the word before them, or before the word behind them, misheard or not.

    Both texts begin and end at the same place, so that the mark at the end is found where the last word was left out.
    """
    behind = {one: other for one, other in places} | {-1: -1}
    before = {one: other for one, other in places} | {len(reference.words): len(hypothesis.words)}
    left = [Counter(marks) for marks in hypothesis.marks]
    right = total = 0
    for gap, marks in enumerate(reference.marks):
        there = {behind[gap - 1] + 1} if gap - 1 in behind else set()
        there |= {before[gap]} if gap in before else set()
        for mark in marks:
            total += 1
            found = next((place for place in sorted(there) if left[place][mark]), None)
            if found is not None:
                left[found][mark] -= 1
                right += 1
    return right, total
