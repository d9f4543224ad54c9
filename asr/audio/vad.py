"""Voice activity detection: silero-vad over a recording of any length, with a probability for each 32 ms.

The package brings the weights of its network, which ``asr.audio.vad_network`` computes in blocks of frames rather than
frame by frame; the package itself is not imported, because that sets torch's threads to one for the whole process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE
from asr.audio.sounding import Stretch, Waveform, copied, mean, sounding, within
from asr.audio.vad_network import HIDDEN, State, voice_network

FRAME = 512  # samples of one judgement; the network takes no other number at 16 kHz
CONTEXT = 64  # samples before a frame that the network sees as well
_FRESH: State = (np.zeros((1, 1, HIDDEN), np.float32), np.zeros((1, 1, HIDDEN), np.float32))

# Each 33 s are judged anew, after two seconds of what comes before them (silence, before a recording). Without these a
# word of 0.3 s that begins with the file is hardly found. With all that comes before, speech after a quarter of an
# hour of silence is found 0.3 s late: the network has settled on silence.
BLOCK_FRAMES = 1024
LEAD_FRAMES = 62
BLOCK = BLOCK_FRAMES * FRAME

# The network is at home with speech at about this level. 30 dB below, it missed 9 of 543 telephone prompts; raised
# frame by frame to the loudest second around it, none. Raising by more than 40 dB would make hiss of a dead line.
TARGET_DBFS = -20.0
MAX_GAIN_DB = 40.0
LOUDEST_FRAMES = 30  # each side, about a second: a quiet voice is raised even where a loud one spoke just before

# Speech begins at even odds. It ends lower, or every weak consonant would end it.
BEGIN = 0.5
END = 0.35
# A run of frames counts by the sum of its log-odds for speech, as in a sequential test. Arpeggios reach 17, knocks 4;
# of 1083 prompts, single letters among them, two lie below 18.
EVIDENCE = 18.0
MAX_LOG_ODDS = 7.0  # of one frame: two frames prove nothing, however sure the network is
# Nobody records a second of nothing: in a recording this short a doubtful word is taken for one.
SHORT_S = 2.0
SHORT_EVIDENCE = 1.0
REACH_S = 1.0  # from speech, weaker runs count too: they are its small words


def speech(waveform: Waveform, stretches: Sequence[Stretch] | None = None) -> list[Stretch]:
    """Return the stretches of ``waveform`` [samples], 16 kHz, in which somebody speaks, as (start, end) in samples.

    They are in order and do not touch; breath and hiss at a word's edges may lie outside. How loud the recording is
    makes no difference down to about -60 dBFS. Safe to call from several threads. Where ``stretches`` of it are given,
    the rest is zero, and is not read.
    """
    return list(heard(waveform, stretches))


def heard(waveform: Waveform, stretches: Sequence[Stretch] | None = None) -> Iterator[Stretch]:
    """Yield the stretches of ``speech`` one by one, each before what comes 33 s after it is judged.

    What lies before a stretch that was yielded is not read any more.
    """
    needed = SHORT_EVIDENCE if len(waveform) <= SHORT_S * SAMPLE_RATE else EVIDENCE
    for start, end in _near(_runs(judged(waveform, stretches)), needed):
        yield start * FRAME, min(end * FRAME, len(waveform))


def probabilities(waveform: Waveform, stretches: Sequence[Stretch] | None = None) -> NDArray[np.float32]:
    """Return the probability of speech in each frame of 512 samples [ceil(samples / 512)], loudness evened out.

    Digital silence, but for the beginning of it, has none, and is not judged.
    """
    return np.concatenate([np.zeros(0, np.float32), *judged(waveform, stretches)])


def judged(waveform: Waveform, stretches: Sequence[Stretch] | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of ``probabilities`` block by block, each judged when it is asked for."""
    if not len(waveform):
        return
    state, lead = _after_silence(), 0
    for count, block in _blocks(_Sound(waveform, sounding(waveform, BLOCK) if stretches is None else stretches)):
        if block is None:
            yield np.zeros(count, np.float32)
        else:
            found, *_ = _judged(block, state)
            yield found[lead:]
        state, lead = _FRESH, LEAD_FRAMES


def _judged(block: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], ...]:
    """Return the probabilities of a block's frames [frames, context + frame], and the state after it."""
    return voice_network().judged(block, state)


@cache
def _after_silence() -> State:
    """Return the state after a silent lead, the same before every recording: half the work for one of two seconds."""
    _, h, c = _judged(np.zeros((LEAD_FRAMES, CONTEXT + FRAME), np.float32), _FRESH)
    return h, c


class _Sound:
    """A waveform in blocks of frames, the last frame filled with zeros, without its mean.

    That is the microphone's: raised with a quiet voice it would clip.
    """

    def __init__(self, waveform: Waveform, stretches: Sequence[Stretch]) -> None:
        self._waveform = waveform
        self._stretches = stretches
        self._offset = mean(waveform, stretches)
        self.starts = range(0, len(waveform), BLOCK)
        self._last: tuple[int, NDArray[np.float32]] = (-1, np.zeros((0, FRAME), np.float32))  # most have one block only

    def is_silent(self, start: int, frames_before: int = 0) -> bool:
        """Return whether a block, and so many frames before it, are zero."""
        before = max(start - frames_before * FRAME, 0)
        return not any(within(self._stretches, before, start + BLOCK))

    def frames(self, start: int) -> NDArray[np.float32]:
        """Return the block [frames, FRAME] that begins at ``start``."""
        if self._last[0] != start:
            end = min(start + BLOCK, len(self._waveform))
            filled = np.zeros(-(-(end - start) // FRAME) * FRAME, np.float32)
            samples = copied(self._waveform, self._stretches, start, end)
            np.subtract(samples, self._offset, out=filled[: end - start])
            self._last = start, filled.reshape(-1, FRAME)
        return self._last[1]

    def levels(self, start: int) -> NDArray[np.float32]:
        """Return the RMS of each frame of a block."""
        end = min(start + BLOCK, len(self._waveform))
        if self.is_silent(start) and end - start == BLOCK:
            return np.full(BLOCK_FRAMES, abs(self._offset), np.float32)
        frames = self.frames(start)
        return np.asarray(np.sqrt(np.einsum("ts,ts->t", frames, frames) / FRAME))


def _blocks(sound: _Sound) -> Iterator[tuple[int, NDArray[np.float32] | None]]:
    """Yield the frames of each block, and [lead + frames, context + frame] of it, evened out; the first has no lead.

    Of a block that is silent, as what was heard last before it, there is nothing.
    """
    gains = _gains(sound)
    edges = ((np.append(gains[:1], gains) + np.append(gains, gains[-1:])) / 2).astype(np.float32)
    # From frame to frame without a step, which would click.
    ramp = (np.arange(FRAME, dtype=np.float32) / FRAME).astype(np.float32, copy=False)
    lead = np.zeros((0, CONTEXT + FRAME), np.float32)
    before = np.zeros((1, CONTEXT), np.float32)
    for index, start in enumerate(sound.starts):
        frames, first = sound.frames(start), index * BLOCK_FRAMES
        count = len(frames)
        skipped = bool(index) and sound.is_silent(start, LEAD_FRAMES)
        if skipped:  # but for what leads to the next one
            frames, first = frames[-LEAD_FRAMES - 1 :], first + max(count - LEAD_FRAMES - 1, 0)
        left, right = edges[first : first + len(frames), None], edges[first + 1 : first + len(frames) + 1, None]
        block = np.empty((len(lead) + len(frames), CONTEXT + FRAME), np.float32)
        block[: len(lead)] = lead
        contexts, even = block[len(lead) :, :CONTEXT], block[len(lead) :, CONTEXT:]
        np.multiply(frames, left + (right - left) * ramp, out=even)
        np.clip(even, -1.0, 1.0, out=even)
        contexts[:1], contexts[1:] = before, even[:-1, -CONTEXT:]
        yield count, None if skipped else block
        lead, before = block[-LEAD_FRAMES:], even[-1:, -CONTEXT:]


def _gains(sound: _Sound) -> NDArray[np.float32]:
    """Return what to multiply each frame by, so that the loudest of the frames around it is at the target level."""
    levels = np.concatenate([sound.levels(start) for start in sound.starts])
    loudest = _around(np.pad(levels, LOUDEST_FRAMES), LOUDEST_FRAMES).max(axis=1)
    wanted = 10 ** (TARGET_DBFS / 20) / np.maximum(loudest, 1e-9)
    log_gains = np.log(np.minimum(wanted, 10 ** (MAX_GAIN_DB / 20)))
    smooth = LOUDEST_FRAMES // 2
    gains: NDArray[np.float32] = np.exp(_around(np.pad(log_gains, smooth, mode="edge"), smooth).mean(axis=1))
    return gains


def _around(padded: NDArray[np.float32], each_side: int) -> NDArray[np.float32]:
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * each_side + 1)


def _runs(blocks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[int, int, float]]:
    """Yield the runs of frames that begin above one threshold and end below the lower one, with their evidence."""
    index, start = 0, 0
    run: list[float] | None = None
    for block in blocks:
        for probability in block.tolist():
            if run is None and probability >= BEGIN:
                start, run = index, []
            elif run is not None and probability < END:
                yield start, index, _evidence(run)
                run = None
            if run is not None:
                run.append(probability)
            index += 1
    if run is not None:
        yield start, index, _evidence(run)


def _evidence(run: Sequence[float]) -> float:
    """Return the sum of the log-odds for speech of a run's frames."""
    odds = np.clip(np.array(run, np.float32), 0.5, 1.0 - 1e-6)
    return float(np.minimum(np.log(odds / (1.0 - odds)), MAX_LOG_ODDS).sum())


def _near(runs: Iterable[tuple[int, int, float]], needed: float) -> Iterator[tuple[int, int]]:
    """Yield the runs that have the evidence ``needed`` or are within reach of one that has. They are in order."""
    reach = REACH_S * SAMPLE_RATE / FRAME
    sure_end = -np.inf
    weak: list[tuple[int, int]] = []  # since then, out of its reach
    for start, end, evidence in runs:
        if evidence >= needed:
            yield from [run for run in weak if start - run[1] <= reach]
            weak, sure_end = [], end
            yield start, end
        elif start - sure_end <= reach:
            yield start, end
        else:
            weak.append((start, end))
