"""Long audio in pieces: cut where it is quietest, until voice activity detection says where nobody speaks."""

from __future__ import annotations

import numpy as np

from asr.audio import SAMPLE_RATE

FRAME = SAMPLE_RATE // 100  # 10 ms
PAUSE_FRAMES = 10  # loudness is judged over 100 ms: shorter gaps are stops inside a word


def split_at_quiet(waveform: np.ndarray, max_s: float = 30.0, search_s: float = 5.0) -> list[tuple[int, int]]:
    """Cut ``waveform`` [samples] at 16 kHz into windows of at most ``max_s`` seconds; return (start, end) offsets.

    Each cut lies at the quietest 100 ms of the window's last ``search_s`` seconds, the latest of equals, so that total
    silence makes the fewest windows. Windows touch: nothing is lost, nothing is heard twice.
    """
    longest, search = round(max_s * SAMPLE_RATE), round(search_s * SAMPLE_RATE)
    if not 0 < search < longest:
        raise ValueError(f"0 < search_s < max_s does not hold: search_s={search_s:g}, max_s={max_s:g}")
    windows: list[tuple[int, int]] = []
    start = 0
    while len(waveform) - start > longest:
        end = start + longest
        cut = end - search + _quietest(waveform[end - search : end])
        windows.append((start, cut))
        start = cut
    if start < len(waveform):
        windows.append((start, len(waveform)))
    return windows


def _quietest(stretch: np.ndarray) -> int:
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
