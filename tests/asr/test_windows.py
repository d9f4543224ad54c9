from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import SAMPLE_RATE
from asr.windows import split_at_quiet

NOISE = np.random.default_rng(0).standard_normal(40 * SAMPLE_RATE).astype(np.float32) * 0.1


def test_short_audio_is_one_window() -> None:
    assert split_at_quiet(NOISE[: 30 * SAMPLE_RATE]) == [(0, 30 * SAMPLE_RATE)]


def test_no_audio_is_no_window() -> None:
    assert split_at_quiet(NOISE[:0]) == []


def test_the_cut_falls_into_the_pause() -> None:
    waveform = NOISE.copy()
    pause = slice(int(26.4 * SAMPLE_RATE), int(26.7 * SAMPLE_RATE))
    waveform[pause] *= 0.01
    (_, cut), _ = split_at_quiet(waveform)
    assert pause.start < cut < pause.stop


def test_a_gap_of_one_stop_consonant_is_no_pause() -> None:
    waveform = NOISE.copy()
    waveform[int(25.50 * SAMPLE_RATE) : int(25.53 * SAMPLE_RATE)] = 0.0
    waveform[int(28.00 * SAMPLE_RATE) : int(28.20 * SAMPLE_RATE)] *= 0.01
    (_, cut), _ = split_at_quiet(waveform)
    assert 28.0 < cut / SAMPLE_RATE < 28.2


def test_silence_makes_the_fewest_windows() -> None:
    windows = split_at_quiet(np.zeros(300 * SAMPLE_RATE, np.float32))
    assert len(windows) == 11
    assert windows[0][1] > 29.9 * SAMPLE_RATE


@settings(max_examples=50, deadline=None)
@given(
    samples=st.integers(0, 40 * SAMPLE_RATE),
    max_s=st.floats(0.5, 30.0),
    share=st.floats(0.01, 0.9),
    gain=st.sampled_from([0.0, 1.0]),
)
def test_nothing_is_lost_and_nothing_heard_twice(samples: int, max_s: float, share: float, gain: float) -> None:
    windows = split_at_quiet(NOISE[:samples] * gain, max_s, max_s * share)
    assert [start for start, _ in windows] == [0, *[end for _, end in windows[:-1]]][: len(windows)]
    assert sum(end - start for start, end in windows) == samples
    assert all(0 < end - start <= round(max_s * SAMPLE_RATE) for start, end in windows)


def test_the_search_must_lie_within_the_window() -> None:
    with pytest.raises(ValueError, match="search_s < max_s"):
        split_at_quiet(NOISE, max_s=5.0, search_s=5.0)
