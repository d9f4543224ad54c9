"""Cuts a text into its words, each as it is compared and as it is written, and the punctuation between them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from fontTools.unicodedata import script

from asr.scoring.edits import Operation, align_words
from asr.scoring.normalizer import cased, normalise, parts_words

# Scripts without spaces between words: each letter is compared on its own.
_UNSPACED = frozenset({"Hani", "Hira", "Kana", "Bopo", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})

# They belong to the spelling of a word (l'amico, po'), and as quotation marks nobody can tell them from that.
_APOSTROPHES = frozenset("'’‘`´＇\u02bc")
# Unicode calls them punctuation; they are words (and, per cent), or signs of print.
_NO_PUNCTUATION = frozenset("%‰‱٪&@#*/\\§¶†‡•·") | _APOSTROPHES
# Without spaces around, they are inside a word, or inside a number (Unicode's annex 29, MidLetter and MidNum).
_IN_WORDS = frozenset(".:·״‧")
_IN_NUMBERS = frozenset(".,:;٫٬،")
_QUOTES = frozenset('"„‟«»‹›“”')
_HYPHENS = frozenset("-_‐‑")
_DOTS = re.compile(r"\.{2,}")
_ELLIPSIS = "…"


@dataclass(frozen=True)
class WrittenText:
    """The words of a text and what is between them.

    ``words`` are as the normaliser compares them; ``spelled`` the same in their own case; ``chunks`` as they were
    typed, with the signs at them and a space behind where there is one: joined, they are the text, but for the kinds
    of its white space. ``marks[i]`` is the punctuation before word i, the last one that behind the last word. Of
    scripts without spaces each letter is a word.
    """

    words: tuple[str, ...]
    spelled: tuple[str, ...]
    chunks: tuple[str, ...]
    marks: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class AlignedWord:
    """A pair of places in two texts, under one operation: None where one of them has no word."""

    operation: Operation
    reference: int | None
    hypothesis: int | None


def written(text: str, language: str | None = None) -> WrittenText:
    """Return the words and the punctuation of a text. ``language`` is for the normaliser."""
    gaps, runs = _cut(" ".join(unicodedata.normalize("NFC", text).split()))
    words: list[str] = []
    spelled: list[str] = []
    chunks: list[str] = []
    marks = [_marks(gaps[0])]
    lead = gaps[0]
    for index, run in enumerate(runs):
        after = runs[index + 1] if index + 1 < len(runs) else ""
        compared = normalise(run, "normalised", language).split()
        words += compared
        spelled += cased(run).split()
        head, space, rest = gaps[index + 1].partition(" ") if after else (gaps[index + 1], "", "")
        # One typed letter may be two words (½ is 1 and 2): what was typed stands at the first.
        chunks += [lead + run + head + space, *[""] * (len(compared) - 1)]
        marks += [()] * (len(compared) - 1) + [_marks(gaps[index + 1], run, after)]
        lead = rest
    return WrittenText(tuple(words), tuple(spelled), tuple(chunks), tuple(marks))


def align_written(reference: WrittenText, hypothesis: WrittenText) -> Iterator[AlignedWord]:
    """Yield the places of the cheapest alignment of the words of two texts, in order."""
    one = other = 0
    for span in align_words(" ".join(reference.words), " ".join(hypothesis.words)):
        for index in range(max(len(span.reference), len(span.hypothesis))):
            left = one + index if span.reference else None
            right = other + index if span.hypothesis else None
            yield AlignedWord(span.operation, left, right)
        one, other = one + len(span.reference), other + len(span.hypothesis)


def _cut(text: str) -> tuple[list[str], list[str]]:
    """Return what is between words, and the words: a gap before each, and one at the end."""
    gaps, runs = [""], []
    for is_gap, piece in _pieces(text):
        if is_gap or not normalise(piece):  # joiners alone are no word
            gaps[-1] += piece
        else:
            runs.append(piece)
            gaps.append("")
    return gaps, runs


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    for is_gap, characters in groupby(text, parts_words):
        piece = ""
        for character in characters:
            combines = unicodedata.category(character)[0] == "M"
            if not is_gap and piece and not combines and (_is_alone(character) or _is_alone(piece[0])):
                yield is_gap, piece
                piece = ""
            piece += character
        yield is_gap, piece


@cache
def _is_alone(character: str) -> bool:
    return script(character) in _UNSPACED


def _marks(gap: str, before: str = "", after: str = "") -> tuple[str, ...]:
    """Return the punctuation in a gap, each as its plainest form, but for what is inside a word."""
    if before and after and _is_inside(gap, before[-1], after[0]):
        return ()
    plain = _DOTS.sub(_ELLIPSIS, unicodedata.normalize("NFKC", gap))
    return tuple(map(_folded, filter(_is_mark, plain)))


def _is_inside(gap: str, before: str, after: str) -> bool:
    if before.isnumeric() and after.isnumeric() and gap in _IN_NUMBERS:
        return True
    return gap in _IN_WORDS or gap in _HYPHENS


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" and character not in _NO_PUNCTUATION


def _folded(mark: str) -> str:
    """Return the mark that stands for all quotation marks, and for all dashes; of others themselves."""
    if mark in _QUOTES:
        return '"'
    return "-" if unicodedata.category(mark) == "Pd" else mark
