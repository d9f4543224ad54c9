"""Segments of a clip: its words and when they are said, cut in pauses, none longer than a subtitle may be."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from asr.transcript import Segment, Word

MAX_SEGMENT_S = 7.0  # what subtitles may stand at most, and about what Whisper's segments last
MIN_PAUSE_S = 1.0  # a pause as long parts segments of any length
# The end of a sentence is worth as much more of a pause; a second away from the middle as much less of one.
SENTENCE_S = 0.5
PAUSE_PER_SECOND_S = 0.05

_SENTENCE_ENDS = tuple(".?!…。？！।؟")


def segments(words: Sequence[Word], tokens: Sequence[int], pieces: Sequence[str]) -> tuple[Segment, ...]:
    """Return words in segments; each has the tokens that spell it, of which ``pieces`` are the texts without spaces."""
    parts = list(_parts(words))
    texts = ["".join(word.text for word in part) for part in parts]
    ends = [0, *accumulate(len("".join(text.split())) for text in texts)]
    begins = [0, *accumulate(map(len, pieces))]  # in characters, as the ends
    bounds = [*(bisect_left(begins, end) for end in ends[:-1]), len(tokens)]
    return tuple(
        Segment(part[0].start_s, part[-1].end_s, text.strip(), tuple(tokens[first:end]))
        for part, text, (first, end) in zip(parts, texts, pairwise(bounds), strict=True)
    )


def _parts(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Yield the words of each segment: cut at the best pause until no part is too long or holds a long pause."""
    waiting = [words]
    while waiting:
        part = waiting.pop()
        cut = _cut(part)
        if cut:
            waiting += [part[cut:], part[:cut]]
        elif part:
            yield part


def _cut(words: Sequence[Word]) -> int:
    """Return the number of the word that begins a segment of its own; 0 for none."""
    pauses_s = [after.start_s - before.end_s for before, after in pairwise(words)]
    if not pauses_s:
        return 0
    longest_s = max(pauses_s)
    if longest_s >= MIN_PAUSE_S:
        return pauses_s.index(longest_s) + 1
    if words[-1].end_s - words[0].start_s <= MAX_SEGMENT_S:
        return 0
    middle_s = (words[0].start_s + words[-1].end_s) / 2

    def worth(cut: int) -> float:
        away_s = abs(words[cut].start_s - middle_s)
        ends = words[cut - 1].text.endswith(_SENTENCE_ENDS)
        return pauses_s[cut - 1] + SENTENCE_S * ends - PAUSE_PER_SECOND_S * away_s

    return max(range(1, len(words)), key=worth)
