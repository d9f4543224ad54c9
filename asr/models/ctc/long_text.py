"""Cuts a long text into pieces that are aligned one by one, and joins these into labelled segments for training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import east_asian_width

from asr.data.segments import LabelledSegment
from asr.models.ctc.long_alignment import SegmentSpan

PIECE_LETTERS = 100
"""The longest piece, some 6 s: what is spoken without text, and what is not spoken, is told between pieces alone."""

WIDE_LETTERS = 3
"""Letters of an alphabet that are spoken as long as a character of Chinese, Japanese or Korean."""

MARGIN_S = 0.2
"""What a segment has before and after its words, where there is a pause."""

# Of Latin, Greek, Cyrillic; Chinese and Japanese; Devanagari and its kin; Arabic, Urdu; Armenian; Ethiopic; Tibetan;
# Burmese; Khmer. Where spaces part words a full stop ends a sentence before one: 3.14 is a number.
_CLOSING = r"[\"'”’»›)\]」』】）》〉]*+"  # and never fewer of them
_SENTENCE_END = re.compile(
    rf"[.!?…;]+{_CLOSING}(?=\s)|[!?]+{_CLOSING}(?=[^\x00-\x7f])|[。！？｡।॥؟۔։።፧፨།༎။។៕]+{_CLOSING}|\n\s*\n"
)
_CLAUSE_END = re.compile(rf"[,:;–—]+{_CLOSING}(?=\s)|[、，；：،؛፣፤፥၊՝]+{_CLOSING}")
_WORD_END = re.compile(r"(?=\s)")


@dataclass(frozen=True)
class Piece:
    """A stretch of a text [``start``, ``end``), without white space around it, and whether a sentence ends with it."""

    start: int
    end: int
    ends_sentence: bool


def pieces(text: str) -> list[Piece]:
    """Return a text's sentences, those over ``PIECE_LETTERS`` in parts: at commas and the like, or between words.

    What has none of these is cut in the middle of its characters. A dot after an abbreviation is taken for an end:
    it does no harm, ``labelled_segments`` joins what goes together. All that is not white space is in one piece.
    """
    found: list[Piece] = []
    for start, end in _cut(text, 0, len(text), _SENTENCE_END):
        parts = list(_fitting(text, start, end, (_CLAUSE_END, _WORD_END)))
        found += [Piece(*part, ends_sentence=part is parts[-1]) for part in parts]
    return found


def labelled_segments(
    text: str,
    parts: Sequence[Piece],
    spans: Sequence[SegmentSpan | None],
    max_s: float,
    min_confidence: float,
    max_pause_s: float = 1.0,
) -> list[LabelledSegment]:
    """Return what is surely spoken of ``parts``, joined into segments of at most ``max_s`` seconds.

    A segment has neighbouring parts of the text that all are as confident as ``min_confidence``, natural logarithm,
    with no pause over ``max_pause_s`` between them, in which there may be speech without text. Where it would be over
    ``max_s``, it ends with a sentence, if one ends in its second half, or else at the longest pause in that. A part
    that alone is longer is left out.
    """
    found: list[LabelledSegment] = []
    for run in _runs(parts, spans, max_s, min_confidence, max_pause_s):
        while run:
            count = _fill(run, max_s)
            (first, first_span), (last, last_span) = run[0], run[count - 1]
            words = " ".join(text[first.start : last.end].split())
            found.append(LabelledSegment(first_span.start_s, last_span.end_s, words))
            run = run[count:]
    return _with_margins(found, max_s)


_Spoken = tuple[Piece, SegmentSpan]


def _cut(text: str, start: int, end: int, ends: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield the stretches of [start, end) up to each match, without white space around them, but no empty ones."""
    borders = [start, *(match.end() for match in ends.finditer(text, start, end)), end]
    for first, last in pairwise(borders):
        stretch = text[first:last]
        if stretch.strip():
            yield first + len(stretch) - len(stretch.lstrip()), last - len(stretch) + len(stretch.rstrip())


def _letters(text: str) -> int:
    return sum(WIDE_LETTERS if east_asian_width(character) in "WF" else 1 for character in text)


def _fitting(text: str, start: int, end: int, ends: Sequence[re.Pattern[str]]) -> Iterator[tuple[int, int]]:
    """Yield [start, end) in parts of up to ``PIECE_LETTERS``, cut at the first of ``ends`` where that is enough."""
    letters = _letters(text[start:end])
    if letters <= PIECE_LETTERS:
        yield start, end
    elif not ends:
        middle = (start + end) // 2
        yield from _fitting(text, start, middle, ends)
        yield from _fitting(text, middle, end, ends)
    else:
        goal = letters / math.ceil(letters / PIECE_LETTERS)  # parts of like length
        first, last = -1, -1
        for left, right in _cut(text, start, end, ends[0]):
            if first >= 0:
                now, then = _letters(text[first:last]), _letters(text[first:right])
                if then > PIECE_LETTERS or then - goal > goal - now:
                    yield from _fitting(text, first, last, ends[1:])
                    first = -1
            first, last = (left if first < 0 else first), right
        if first >= 0:
            yield from _fitting(text, first, last, ends[1:])


def _runs(
    parts: Sequence[Piece],
    spans: Sequence[SegmentSpan | None],
    max_s: float,
    min_confidence: float,
    max_pause_s: float,
) -> Iterator[list[_Spoken]]:
    """Yield the neighbouring parts that may be in one segment, but for its length."""
    run: list[_Spoken] = []
    for part, span in zip(parts, spans, strict=True):
        sure = span is not None and span.confidence >= min_confidence and span.end_s - span.start_s <= max_s
        if run and (span is None or not sure or span.start_s - run[-1][1].end_s > max_pause_s):
            yield run
            run = []
        if span is not None and sure:
            run.append((part, span))
    if run:
        yield run


def _fill(run: Sequence[_Spoken], max_s: float) -> int:
    """Return how many of a run's parts are the next segment."""
    start_s = run[0][1].start_s
    most = sum(span.end_s - start_s <= max_s for _, span in run)
    if most == len(run):
        return most
    half_s = (run[most - 1][1].end_s - start_s) / 2

    def worth(count: int) -> tuple[bool, float]:
        part, span = run[count - 1]
        return part.ends_sentence, run[count][1].start_s - span.end_s

    late = [count for count in range(1, most + 1) if run[count - 1][1].end_s - start_s >= half_s]
    return max(reversed(late), key=worth)


def _with_margins(segments: Sequence[LabelledSegment], max_s: float) -> list[LabelledSegment]:
    """Return the segments widened by the margin, or to the middle of the pause between two, but not over ``max_s``."""
    widened: list[LabelledSegment] = []
    for number, segment in enumerate(segments):
        room_s = (max_s - (segment.end_s - segment.start_s)) / 2
        before_s = (segment.start_s - segments[number - 1].end_s) / 2 if number else segment.start_s
        behind_s = (segments[number + 1].start_s - segment.end_s) / 2 if number + 1 < len(segments) else 0.0
        start_s = segment.start_s - _margin(before_s, room_s)
        end_s = segment.end_s + _margin(behind_s, room_s)
        widened.append(LabelledSegment(round(start_s, 2), round(end_s, 2), segment.text))
    return widened


def _margin(*most_s: float) -> float:
    """Return the margin, or less, in whole hundredths of a second, so that rounding makes none longer."""
    return max(math.floor(min(MARGIN_S, *most_s) * 100 + 1e-6) / 100, 0.0)
