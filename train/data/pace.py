"""Checks whether the transcripts of a set can belong to its audio, by how fast they would be spoken."""

from __future__ import annotations

import unicodedata
from array import array
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

# A character of these is spoken as long as so many letters, roughly: one limit then holds for all scripts.
_LETTERS = {"CJK": 3.0, "HANGUL": 2.5, "HIRAGANA": 2.0, "KATAKANA": 2.0, "YI": 3.0, "ETHIOPIC": 2.0, "DIGIT": 4.0}

# Over the five prompt packages: 1.1 to 24.9 letters a second, 95 % of clips between 2 and 17; what is under 2 lasts
# less than 3 s, single letters above all.
FASTEST, SLOWEST = 25.0, 2.0
_LONG_S = 5.0  # a single word is often cut with seconds of silence around it
_SHARE = 0.1
_MIN_CLIPS = 10
# Rank correlation of text and length over the prompts: 0.96 to 0.98, over any 30 of them 0.73 at least, over 64 0.88;
# with transcripts shuffled 0.4 at most over 64. Shifted by one row 0.6, as neighbours are alike: the shift is tried.
FITTING = 0.4
_MIN_PAIRS = 30
_MIN_SPREAD = 2.0  # of the lengths, 90th to 10th percentile: clips of one length tell nothing
_BETTER = 0.15
SHIFTS = (-2, -1, 1, 2)


@dataclass(frozen=True)
class PaceFigures:
    """Letters a second over all clips, clips too fast and too slow to be true, and how well text and length agree.

    ``agreement`` is the rank correlation (Spearman), None for under 30 clips or clips of one length. ``shifted`` is the
    best one with each transcript moved by ``shift`` rows.
    """

    clips: int
    letters_per_s: float
    too_fast: int
    too_slow: int
    agreement: float | None
    shift: int = 0
    shifted: float | None = None

    def findings(self) -> list[str]:
        """Return what cannot be, in words."""
        if self.shifted is not None and self.shifted > max(FITTING, (self.agreement or 0.0) + _BETTER):
            side = "before" if self.shift < 0 else "after"
            return [
                f"the transcript {abs(self.shift)} row{'s' * (abs(self.shift) > 1)} {side} fits each clip's length "
                f"better than its own (rank correlation {self.shifted:.2f}, {self.agreement:.2f}): are they shifted?"
            ]
        found = []
        if self.agreement is not None and self.agreement < FITTING:
            found.append(
                f"long transcripts do not go with long clips (rank correlation {self.agreement:.2f}, 0.7 and more if "
                "they belong together): are they those of other clips?"
            )
        return found + (self._rates() if self.clips >= _MIN_CLIPS else [])

    def _rates(self) -> list[str]:
        found = []
        spoken = f"all together {self.letters_per_s:.1f} letters a second"
        if self.too_fast > _SHARE * self.clips or self.letters_per_s > FASTEST:
            # A whole recording's text is too long for nearly all of its clips, not for a few.
            everywhere = self.letters_per_s > FASTEST or self.too_fast > self.clips / 2
            why = (
                "is the text of the whole recording with each clip?" if everywhere else "are some those of other clips?"
            )
            found.append(
                f"{self.too_fast:,} of {self.clips:,} transcripts are longer than anybody speaks "
                f"(over {FASTEST:g} letters a second; {spoken}): {why}"
            )
        if self.too_slow > _SHARE * self.clips:
            found.append(
                f"{self.too_slow:,} of {self.clips:,} clips last much longer than their words "
                f"(over {_LONG_S:g} s, under {SLOWEST:g} letters a second; {spoken}): are words missing?"
            )
        return found


ADVICE = "listen to some clips beside their transcripts: a model that learns from these learns to invent"


class Pace:
    """Lengths of texts and of clips in the order of the rows; 12 bytes a row."""

    def __init__(self) -> None:
        self._letters = array("f")
        self._seconds = array("f")
        self._measured = array("i")

    def add(self, text: str, seconds: float | None) -> None:
        """Take one row into account; rows of unknown length are only neighbours of others."""
        if seconds:
            self._measured.append(len(self._letters))
            self._seconds.append(seconds)
        self._letters.append(letters(text))

    def figures(self) -> PaceFigures | None:
        """Return the figures of the rows that have words and a length; None where there is none."""
        everything = np.array(self._letters)
        at, seconds = np.array(self._measured, np.int64), np.array(self._seconds)
        worded = everything[at] > 0 if len(at) else np.zeros(0, bool)
        at, seconds = at[worded], seconds[worded]
        if not len(at):
            return None
        own = everything[at]
        rates = own / seconds
        agreement = _agreement(own, seconds)
        shift, shifted = 0, None
        if agreement is not None:
            moved = {by: _moved(everything, at, seconds, by) for by in SHIFTS}
            shift, shifted = max(
                ((by, value) for by, value in moved.items() if value is not None), key=lambda m: m[1], default=(0, None)
            )
        return PaceFigures(
            clips=len(at),
            letters_per_s=round(float(own.sum() / seconds.sum()), 2),
            too_fast=int((rates > FASTEST).sum()),
            too_slow=int(((rates < SLOWEST) & (seconds > _LONG_S)).sum()),
            agreement=agreement,
            shift=shift,
            shifted=shifted,
        )


def letters(text: str) -> float:
    """Return how much there is to say in a text, in letters of an alphabet; spaces and punctuation are none."""
    return sum(map(_weight, unicodedata.normalize("NFC", text)))


@cache
def _weight(character: str) -> float:
    if unicodedata.category(character)[0] not in "LMN":
        return 0.0
    name = unicodedata.name(character, "").split()
    return next((_LETTERS[word] for word in name[:3] if word in _LETTERS), 1.0)


def _moved(everything: NDArray[np.int64], at: NDArray[np.int64], seconds: NDArray[np.float64], by: int) -> float | None:
    inside = (at + by >= 0) & (at + by < len(everything))
    return _agreement(everything[at[inside] + by], seconds[inside])


def _agreement(texts: NDArray[np.int64], seconds: NDArray[np.float64]) -> float | None:
    """Return Spearman's rank correlation, None where there is too little to tell by."""
    if len(texts) < _MIN_PAIRS or np.ptp(texts) == 0:
        return None
    short, long = np.quantile(seconds, [0.1, 0.9])
    if long < _MIN_SPREAD * short:
        return None
    return round(float(np.corrcoef(_ranks(texts), _ranks(seconds))[0, 1]), 3)


def _ranks(values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks, the mean of them where values are equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]
