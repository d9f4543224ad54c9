from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from asr.audio.decode import SAMPLE_RATE, decode
from asr.audio.features import FRAMES_PER_S, HOP, WINDOW_FRAMES, WINDOW_S, LogMel, num_frames, pad
from asr.utterance import Utterance

EXTRACTORS = {bins: WhisperFeatureExtractor(feature_size=bins) for bins in (80, 128)}
RANDOM = np.random.default_rng(0)


def noise(samples: int, level: float = 0.1) -> np.ndarray:
    return (level * RANDOM.standard_normal(samples)).astype(np.float32)


def tone(samples: int, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 440 * np.arange(samples) / SAMPLE_RATE)).astype(np.float32)


WAVEFORMS = {
    "noise": noise(31_999),
    "tone": tone(48_000),
    "silence": np.zeros(16_000, dtype=np.float32),
    "nothing": np.zeros(0, dtype=np.float32),
    "one sample": np.ones(1, dtype=np.float32),
    "one hop and a sample": noise(161),
    "a click at the end": np.append(np.zeros(15_999, dtype=np.float32), np.float32(1)),
    "hardly audible": noise(16_000, 1e-4),
    "below the floor": noise(16_000, 1e-7),
    "30 s": noise(480_000),
    "29.99 s": tone(479_840),
    "29.9999 s": noise(479_999),
}


def full_window(extractor: WhisperFeatureExtractor, waveform: np.ndarray) -> np.ndarray:
    """What the extractor makes of the clip padded to 30 s."""
    return np.asarray(extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0])


def assert_equal_to_the_extractor(bins: int, waveform: np.ndarray) -> None:
    log_mel, expected = LogMel(EXTRACTORS[bins].mel_filters), full_window(EXTRACTORS[bins], waveform)
    exact = log_mel.exact(waveform)
    frames = min(num_frames(len(waveform)), WINDOW_FRAMES)
    assert exact.shape == (bins, frames)
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact, expected[:, :frames], atol=1e-4, rtol=0)
    np.testing.assert_allclose(pad([exact], WINDOW_FRAMES)[0], expected, atol=1e-4, rtol=0)
    half = log_mel(waveform)
    assert half.dtype == np.float16
    np.testing.assert_allclose(pad([half], WINDOW_FRAMES)[0], expected, atol=1e-4, rtol=2**-10)


def test_units_agree() -> None:
    assert HOP * FRAMES_PER_S == SAMPLE_RATE
    assert WINDOW_FRAMES == WINDOW_S * FRAMES_PER_S
    assert EXTRACTORS[80].hop_length == HOP
    assert EXTRACTORS[80].nb_max_frames == WINDOW_FRAMES


@pytest.mark.parametrize("name", WAVEFORMS)
@pytest.mark.parametrize("bins", EXTRACTORS)
def test_equal_to_the_extractor(bins: int, name: str) -> None:
    if name == "nothing":
        assert np.all(LogMel(EXTRACTORS[bins].mel_filters).exact(WAVEFORMS[name]) == -1.5)
        return  # the extractor itself cannot take it
    assert_equal_to_the_extractor(bins, WAVEFORMS[name])


@pytest.mark.medium
def test_real_speech(english_clips: list[Utterance]) -> None:
    for clip in english_clips[:4]:
        waveform = decode(Path(str(clip.audio)))
        assert_equal_to_the_extractor(80, waveform)
        assert_equal_to_the_extractor(80, waveform * np.float32(0.001))


@pytest.mark.medium
@given(samples=st.integers(1, 30_000), level=st.sampled_from([1.0, 1e-2, 1e-4]), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_any_length_and_level(samples: int, level: float, seed: int) -> None:
    waveform = np.random.default_rng(seed).uniform(-level, level, samples).astype(np.float32)
    assert_equal_to_the_extractor(80, waveform)


def test_more_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"30\.0001 s do not fit the window of 30 s"):
        LogMel(EXTRACTORS[80].mel_filters)(noise(480_001))


def test_a_batch_keeps_each_clips_own_silence() -> None:
    log_mel = LogMel(EXTRACTORS[80].mel_filters)
    clips = [log_mel.exact(WAVEFORMS[name]) for name in ("tone", "hardly audible", "silence")]
    batch = pad(clips, 400)
    assert batch.shape == (3, 80, 400)
    assert batch.dtype == np.float32
    for row, clip in zip(batch, clips, strict=True):
        assert np.array_equal(row, pad([clip], 400)[0]), "what else is in the batch must not matter"
