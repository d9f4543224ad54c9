"""Forced alignment of a long recording, up to hours, with the whole of its text, which need not fit it everywhere.

The text comes in segments. A segment that nobody speaks is left out, and what is spoken between two segments may be
anything: each break between segments is a star that matches whatever is heard, as in MMS (Pratap et al. 2023). The
confidence of a segment is that of its worst second, as in ctc-segmentation (Kürzinger et al. 2020).

Legend: T positions, V symbols, C columns kept of these, L tokens, S segments, N positions of a segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from asr.models.ctc.alignment import margins, spans_of
from asr.models.ctc.anchors import anchors
from asr.models.ctc.trellis import Breaks, Corridor, Trellis

UNSPOKEN_LOGPROB = -5.0
"""What leaving out a token costs. Spoken ones that every other symbol was misheard of still cost less, and unspoken
ones more: a trained network gives them some 1e-5 in a pause, and other speech has to be called blank."""

ANCHOR_SLACK_S = 1.0
"""How far before and after an anchor the segment it is in may end and begin."""

WORST_S = 1.0
"""What a segment's confidence is the mean over, where it is lowest."""

MAX_CELLS = 20_000_000_000
"""Tokens times positions to search, 7 minutes of a core: an hour of which nothing is understood has some 8 thousand
million, and one that is understood a few seconds' worth."""

_LOWEST = -60000.0  # of float16


@dataclass(frozen=True)
class EmissionBlock:
    """Emissions of a window of a recording: natural logarithms [T, V], the first position at ``start_s``."""

    start_s: float
    logprobs_TV: NDArray[np.float32]


@dataclass(frozen=True)
class SegmentSpan:
    """The time a segment is spoken in, and its confidence: the lowest mean log probability of a second of it."""

    start_s: float
    end_s: float
    confidence: float


def align_long(
    blocks: Iterable[EmissionBlock], segments: Sequence[Sequence[int]], blank: int, position_s: float
) -> list[SegmentSpan | None]:
    """Return when each segment of the text is spoken in a recording, None for one that is not, or has no tokens.

    ``blocks`` are in order and do not overlap; where there is none, nothing is said. They are read once, and of each
    is kept what the text needs: 2 bytes a position and distinct token, 10 MB an hour for an alphabet and some 700 MB
    for Chinese, at 50 positions a second. Segments should be sentences or less: one is left out as a whole, and what
    is spoken without text can lie between them alone.
    Raises ValueError where a token is the blank or none of the V symbols, and where more than ``MAX_CELLS`` would have
    to be searched: hours of which nothing is understood, as with a text or network of another language.
    """
    columns = sorted({blank}.union(*segments))
    recording = _Recording.of(blocks, columns, position_s)
    spoken_S = [number for number, segment in enumerate(segments) if len(segment)]
    spans: list[SegmentSpan | None] = [None] * len(segments)
    if spoken_S and len(recording.logprobs_TC):
        found = _align(recording, [segments[number] for number in spoken_S], blank, columns)
        for number, span in zip(spoken_S, found, strict=True):
            spans[number] = span
    return spans


@dataclass(frozen=True)
class _Recording:
    """Emissions of all blocks at the columns of the text, the time of each position, and the symbols heard."""

    logprobs_TC: NDArray[np.float16]
    starts_T: NDArray[np.float64]
    position_s: float
    heard: list[int]
    heard_at: list[int]

    @classmethod
    def of(cls, blocks: Iterable[EmissionBlock], columns: Sequence[int], position_s: float) -> _Recording:
        kept: list[NDArray[np.float16]] = [np.zeros((0, len(columns)), dtype=np.float16)]
        starts: list[NDArray[np.float64]] = [np.zeros(0)]
        best: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        end_s = -np.inf
        for block in blocks:
            positions, symbols = block.logprobs_TV.shape
            if not 0 <= columns[0] <= columns[-1] < symbols:
                raise ValueError(f"a token is none of {symbols} symbols: {columns[0]}, {columns[-1]}")
            if block.start_s < end_s - position_s:  # a window's last position may reach over its end
                raise ValueError(f"emissions from {block.start_s:g} s come after others until {end_s:g} s")
            end_s = block.start_s + positions * position_s
            kept.append(np.asarray(block.logprobs_TV[:, columns].clip(_LOWEST, 0), dtype=np.float16))
            starts.append(block.start_s + np.arange(positions, dtype=np.float64) * position_s)
            best.append(block.logprobs_TV.argmax(axis=1))
        best_T = np.concatenate(best)
        heard_N = np.flatnonzero(np.diff(best_T, prepend=-1))
        return cls(np.concatenate(kept), np.concatenate(starts), position_s, best_T[heard_N].tolist(), heard_N.tolist())


def _align(
    recording: _Recording, segments: Sequence[Sequence[int]], blank: int, columns: Sequence[int]
) -> list[SegmentSpan | None]:
    tokens = list(chain.from_iterable(segments))
    if blank in tokens:
        raise ValueError(f"a token is the blank ({blank})")
    column_of = {symbol: column for column, symbol in enumerate(columns)}
    breaks_S1 = np.cumsum([0, *(len(segment) for segment in segments)])
    breaks = Breaks(breaks_S1, breaks_S1 * -UNSPOKEN_LOGPROB)
    corridor = _corridor(recording, tokens, blank, breaks_S1)
    if (cells := int((corridor.ends_T - corridor.firsts_T).sum())) > MAX_CELLS:
        raise ValueError(f"too little of the recording is understood to align it: {cells:.1e} cells are left to search")
    columns_L = np.array([column_of[token] for token in tokens])
    states_T = Trellis(recording.logprobs_TC, columns_L, column_of[blank], corridor, breaks).path()
    spoken_N = np.flatnonzero(states_T & 1)
    segments_N = np.searchsorted(breaks_S1, states_T[spoken_N] >> 1, side="right") - 1
    firsts, ends = spans_of(segments_N, spoken_N)
    found: list[SegmentSpan | None] = [None] * len(segments)
    ended_s = 0.0
    for row, number in enumerate(np.unique(segments_N).tolist()):
        first, end = int(firsts[row]), int(ends[row])
        before = int(ends[row - 1]) if row else 0
        behind = int(firsts[row + 1]) if row + 1 < len(firsts) else len(states_T)
        start_s, end_s = _times(recording, (before, first, end, behind))
        path_N = states_T[first:end]
        path_columns_N = np.where(path_N & 1, columns_L[np.minimum(path_N >> 1, len(columns_L) - 1)], column_of[blank])
        logprobs_N = recording.logprobs_TC[np.arange(first, end), path_columns_N].astype(np.float64)
        found[number] = SegmentSpan(max(start_s, ended_s), end_s, _worst(logprobs_N, recording.position_s))
        ended_s = end_s  # they may touch, and were rounded
    return found


def _corridor(recording: _Recording, tokens: Sequence[int], blank: int, breaks_S1: NDArray[np.int64]) -> Corridor:
    """Return the segments that are possible at each position: up to the one of the next anchor, from the last one's.

    Near an anchor, those on both of its sides are.
    """
    positions = len(recording.starts_T)
    slack = round(ANCHOR_SLACK_S / recording.position_s)
    firsts_T, ends_T = np.zeros(positions, dtype=np.int64), np.full(positions, len(tokens), dtype=np.int64)
    heard = [(symbol, at) for symbol, at in zip(recording.heard, recording.heard_at, strict=True) if symbol != blank]
    for index, token in anchors([symbol for symbol, _ in heard], tokens):
        position, segment = heard[index][1], int(np.searchsorted(breaks_S1, token, side="right")) - 1
        if position + slack < positions:
            firsts_T[position + slack] = breaks_S1[segment]
        if position >= slack:
            ends_T[position - slack] = min(ends_T[position - slack], breaks_S1[segment + 1])
    return Corridor(np.maximum.accumulate(firsts_T), np.minimum.accumulate(ends_T[::-1])[::-1])


def _times(recording: _Recording, around: tuple[int, int, int, int]) -> tuple[float, float]:
    """Return a segment's start and end in seconds, given the end of the one before, its own span, and the next's start.

    They are made as those of words.
    """
    before, first, end, behind = around
    step_s = recording.position_s
    before_s, behind_s = margins((first - before) * step_s, (behind - end) * step_s)
    start_s, last_s = float(recording.starts_T[first]), float(recording.starts_T[end - 1])
    return round(start_s - before_s, 2), round(last_s + step_s + behind_s, 2)


def _worst(logprobs_N: NDArray[np.float64], position_s: float) -> float:
    length = min(max(round(WORST_S / position_s), 1), len(logprobs_N))
    sums_N1 = np.concatenate(([0.0], np.cumsum(logprobs_N)))
    return float((sums_N1[length:] - sums_N1[:-length]).min() / length)
