"""Edits between a reference and a hypothesis, found only here; the metrics and error rates call it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, cast

import jiwer

Operation = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True, slots=True)
class EditCounts:
    """Edits that turn a reference into a hypothesis, in words or in characters. Counts of shards add up."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: EditCounts) -> EditCounts:
        return EditCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors for each unit of the reference; over 1 where much was inserted.

        An empty reference counts as one unit, as in jiwer: the rate is the number of insertions, and always finite.
        """
        return self.errors / max(self.reference_length, 1)

    def as_metric(self, name: str) -> dict[str, float | int]:
        """Return the rate under ``name``, the four counts and ``reference_length``."""
        return {name: self.rate, **asdict(self), "reference_length": self.reference_length}


@dataclass(frozen=True, slots=True)
class AlignedSpan:
    """Consecutive units under one operation. Substituted spans are of equal length, word for word."""

    operation: Operation
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


def align_words(reference: str, hypothesis: str) -> list[AlignedSpan]:
    """Return the cheapest alignment of two texts, in order. White space parts words; either text may be empty."""
    return _align(reference.split(), hypothesis.split())


def align_characters(reference: str, hypothesis: str) -> list[AlignedSpan]:
    """Return the cheapest alignment of two texts by Unicode code point, a run of white space being one space."""
    return _align(list(" ".join(reference.split())), list(" ".join(hypothesis.split())))


def count(alignment: Iterable[AlignedSpan]) -> EditCounts:
    """Return how many units of an alignment are equal, substituted, deleted and inserted."""
    units: dict[Operation, int] = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for span in alignment:
        units[span.operation] += max(len(span.reference), len(span.hypothesis))
    return EditCounts(units["equal"], units["substitute"], units["delete"], units["insert"])


def _align(reference: list[str], hypothesis: list[str]) -> list[AlignedSpan]:
    # The units are cut here: jiwer's own cutting parts words at spaces only, and keeps a lone tab or line feed in them.
    output = jiwer.process_words(
        "", "", reference_transform=lambda _: [reference], hypothesis_transform=lambda _: [hypothesis]
    )
    return [
        AlignedSpan(
            cast(Operation, chunk.type),
            tuple(reference[chunk.ref_start_idx : chunk.ref_end_idx]),
            tuple(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in output.alignments[0]
    ]
