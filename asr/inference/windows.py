"""Cuts a recording of any length into windows of at most 30 s that hold speech; silence gets no window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE
from asr.audio.vad import heard
from asr.inference.recording import Window
from asr.models.processor import LONGEST_WINDOW_S

FRAME = SAMPLE_RATE // 100  # 10 ms
PAUSE_FRAMES = 10  # loudness is judged over 100 ms: shorter gaps are stops inside a word

MAX_WINDOW_S = LONGEST_WINDOW_S
MARGIN_S = 0.4  # kept on each side: a word's breath and hiss, which are not called speech, and some room
# Speech shares a window across a pause as long as this: the words before help with those after, and one clip costs
# less than two. Across a longer one Whisper, which was trained on speech, makes up words.
MAX_PAUSE_S = 2.5
# What does not fit a window is cut at a long pause, where a sentence ends, but late, for a window costs the same full
# or not: a pause of 0.05 s more is worth a second of window. Over one second pauses are alike.
SEARCH_SHARE = 1 / 2  # of a window
QUIET_SHARE = 1 / 6  # likewise, where there is no pause: its quietest moment
MIN_PAUSE_S = 0.1
LONG_PAUSE_S = 1.0
PAUSE_PER_WINDOW_S = 0.05

Stretch = tuple[int, int]


def windows(
    waveform: NDArray[np.float32],
    stretches: Sequence[Stretch] | None = None,
    longest_s: float = MAX_WINDOW_S,
    spoken: Iterable[Stretch] | None = None,
) -> list[Window]:
    """Return the windows of ``waveform`` [samples], 16 kHz, that are to be decoded, in order and without overlap.

    They hold all speech with up to 0.4 s around it, and no pause over 2.5 s. A recording without speech has none. If
    speech goes on for ``longest_s`` without a pause, windows touch at its quietest 100 ms.
    ``stretches`` are as in ``asr.audio.vad.speech``, and ``spoken`` what that returns, where it is known already.
    """
    return list(cut(waveform, stretches, longest_s, spoken))


def cut(
    waveform: NDArray[np.float32],
    stretches: Sequence[Stretch] | None = None,
    longest_s: float = MAX_WINDOW_S,
    spoken: Iterable[Stretch] | None = None,
) -> Iterator[Window]:
    """Yield the windows of ``windows`` one by one, each as soon as it is known where the one after it begins.

    What lies before the end of a window that was yielded is not read any more.
    """
    found = heard(waveform, stretches) if spoken is None else spoken
    return _with_margins(_parts(found, waveform, longest_s), len(waveform))


def _parts(stretches: Iterable[Stretch], waveform: NDArray[np.float32], longest_s: float) -> Iterator[Stretch]:
    """Yield what windows hold but for their margins: speech that only a long pause or a cut parts.

    The cuts make the fewest parts, pauses included, that are no longer than a window's speech may be.
    """
    longest = round((longest_s - 2 * MARGIN_S) * SAMPLE_RATE)
    chain: list[Stretch] = []
    for stretch in stretches:
        if chain and stretch[0] - chain[-1][1] > MAX_PAUSE_S * SAMPLE_RATE:
            yield chain[0][0], chain[-1][1]
            chain = []
        chain.append(stretch)
        while chain[-1][1] - chain[0][0] > longest:
            first = chain[0][0]
            end, start = _best_pause(chain, first + longest, longest_s * SEARCH_SHARE)
            if start == end:
                piece = waveform[first : first + longest + 1]
                end = start = first + split_at_quiet(piece, longest / SAMPLE_RATE, longest_s * QUIET_SHARE)[0][1]
            yield first, end
            chain = [(max(left, start), right) for left, right in chain if right > start]
    if chain:
        yield chain[0][0], chain[-1][1]


def _best_pause(chain: Sequence[Stretch], latest: int, search_s: float) -> Stretch:
    """Return the pause to cut at, one that begins in the seconds before ``latest``; an empty one if there is none."""

    def worth(pause: Stretch) -> float:
        return min(pause[1] - pause[0], LONG_PAUSE_S * SAMPLE_RATE) - PAUSE_PER_WINDOW_S * (latest - pause[0])

    earliest = latest - search_s * SAMPLE_RATE
    pauses = [(before[1], after[0]) for before, after in pairwise(chain) if earliest <= before[1] <= latest]
    long = [pause for pause in pauses if pause[1] - pause[0] >= MIN_PAUSE_S * SAMPLE_RATE]
    return max(long, key=worth, default=(0, 0))


def _with_margins(parts: Iterable[Stretch], samples: int) -> Iterator[Window]:
    """Yield parts widened by the margin, or to the middle of the pause between two of them."""
    margin = round(MARGIN_S * SAMPLE_RATE)
    left = 0
    before: Stretch | None = None
    for part in parts:
        if before:
            middle = (before[1] + part[0]) // 2
            yield Window(max(before[0] - margin, left), min(before[1] + margin, middle))
            left = middle
        before = part
    if before:
        yield Window(max(before[0] - margin, left), min(before[1] + margin, samples))


def split_at_quiet(
    waveform: NDArray[np.float32], max_s: float = MAX_WINDOW_S, search_s: float = 5.0
) -> list[tuple[int, int]]:
    """Cut ``waveform`` [samples] at 16 kHz into pieces of at most ``max_s`` seconds; return (start, end) offsets.

    Each cut lies at the quietest 100 ms of the piece's last ``search_s`` seconds, the latest of equals, so that total
    silence makes the fewest pieces. Pieces touch: nothing is lost, nothing is decoded twice.
    """
    longest, search = round(max_s * SAMPLE_RATE), round(search_s * SAMPLE_RATE)
    if not 0 < search < longest:
        raise ValueError(f"0 < search_s < max_s does not hold: search_s={search_s:g}, max_s={max_s:g}")
    pieces: list[tuple[int, int]] = []
    start = 0
    while len(waveform) - start > longest:
        end = start + longest
        cut = end - search + _quietest(waveform[end - search : end])
        pieces.append((start, cut))
        start = cut
    if start < len(waveform):
        pieces.append((start, len(waveform)))
    return pieces


def _quietest(stretch: NDArray[np.float32]) -> int:
    """Return the offset of the middle of the quietest 100 ms, or the end of a stretch shorter than that."""
    frames = len(stretch) // FRAME
    if frames < PAUSE_FRAMES:
        return len(stretch)
    # float64: over seconds of loud audio the running sum of squares would swallow what a pause adds in float32
    energy = np.square(stretch[: frames * FRAME].astype(np.float64)).reshape(frames, FRAME).sum(axis=1)
    total = np.concatenate([[0.0], np.cumsum(energy)])
    loudness = total[PAUSE_FRAMES:] - total[:-PAUSE_FRAMES]
    last = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
    return (last + PAUSE_FRAMES // 2) * FRAME
