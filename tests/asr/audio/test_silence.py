from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr.audio import silence
from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.audio.silence import is_silent, require_sound
from asr.errors import DataError
from asr.utterance import Utterance
from tests.asr.sounds import encoded

N = 2 * SAMPLE_RATE


def noise(lsb: float) -> np.ndarray:
    """Noise of so many steps of 16 bits, rounded to them."""
    return np.round(np.random.default_rng(0).uniform(-lsb, lsb, N)).astype(np.float32) / 32768


def click(waveform: np.ndarray, seconds: float) -> np.ndarray:
    clicked = waveform.copy()
    clicked[8000 : 8000 + int(seconds * SAMPLE_RATE)] = np.resize([0.5, -0.5], int(seconds * SAMPLE_RATE))
    return clicked


ZEROS = np.zeros(N, dtype=np.float32)
SILENCE = {
    "zeros": ZEROS,
    "a recorder's offset": ZEROS + 0.1,
    "one step of dither": noise(1),
    "two steps of dither": noise(2),
    "a click": click(ZEROS, 0.03),
    "nothing at all": ZEROS[:0],
}


@pytest.mark.parametrize("kind", SILENCE)
def test_silence_of_each_kind_is_silent(kind: str) -> None:
    with pytest.raises(DataError) as caught:
        require_sound(SILENCE[kind])
    assert caught.value.reason == "silent" and "nothing to hear" in caught.value.detail


def test_sound_is_not_silent() -> None:
    for heard in (click(ZEROS, 0.2), noise(40), ZEROS + 0.1 + noise(40)):
        require_sound(heard)


@pytest.mark.parametrize(("codec", "rate"), [("pcm_alaw", 8000), ("pcm_mulaw", 8000), ("g722", 16000)])
def test_silence_stays_silent_in_a_telephones_codec(codec: str, rate: int, tmp_path: Path) -> None:
    """G.722 makes noise of it at -86 dBFS, A-law a constant."""
    assert is_silent(decode(str(encoded(tmp_path / "x.wav", ZEROS, codec, "wav", rate))))


@pytest.mark.parametrize("lsb", [1, 2, 4, 8])
@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw"])
def test_dithered_silence_in_a_telephones_codec_was_sound(codec: str, lsb: float, tmp_path: Path) -> None:
    """All of it is +-8 / 32768 in A-law, which has nothing between them."""
    assert is_silent(decode(str(encoded(tmp_path / "x.wav", noise(lsb), codec, "wav", 8000))))


def test_a_word_within_steady_noise_is_not_silent(english_clips: list[Utterance]) -> None:
    waveform = decode(english_clips[0].audio) * 10 ** (-60 / 20)
    hiss = np.random.default_rng(0).normal(0, 2 / 32768, len(waveform) + 3 * N).astype(np.float32)
    assert is_silent(hiss)
    hiss[N : N + len(waveform)] += waveform
    assert not is_silent(hiss)


@pytest.mark.medium
def test_quiet_speech_is_not_silent(english_clips: list[Utterance]) -> None:
    """40 dB quieter, as from a microphone across the hall, Whisper understands all; 60 dB quieter, nearly all."""
    for clip in english_clips[:6]:
        waveform = decode(clip.audio)
        for decibels, silent in ((0, False), (40, False), (60, False), (80, True)):
            assert is_silent(decode(encode_flac(waveform * 10 ** (-decibels / 20)))) is silent


def test_a_look_at_some_frames_never_decides_otherwise(
    english_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speech and noise around both thresholds, alone and together, long and short, up to a burst of a few frames."""
    speech = np.concatenate([decode(clip.audio) for clip in english_clips[:3]])
    hiss = np.random.default_rng(0).normal(0, 1, len(speech)).astype(np.float32)
    sounds = []
    for decibels in range(0, 70, 5):
        quiet = speech * np.float32(10 ** (-decibels / 20))
        sounds += [quiet, quiet[: SAMPLE_RATE // 2], quiet + hiss * np.float32(3e-4), quiet[:1600], quiet[:100]]
    for dbfs in np.arange(-85, -68, 0.5):
        sounds.append(hiss * np.float32(10 ** (dbfs / 20)))
        for frames in (9, 10, 11, 40, 60):
            burst = sounds[-1].copy()
            burst[:: len(burst) // (160 * frames) + 1] += 1e-3
            sounds += [burst, click(ZEROS, frames / 100) * np.float32(2 * 10 ** (dbfs / 20)) + hiss[:N] * 1e-5]
    sounds += [np.full(N, np.nan, np.float32), *SILENCE.values()]
    quick = [is_silent(sound) for sound in sounds]
    assert sum(silence._is_loud(sound[: len(sound) // 160 * 160].reshape(-1, 160)) for sound in sounds) > 50
    monkeypatch.setattr(silence, "_is_loud", lambda frames: False)
    assert quick == [is_silent(sound) for sound in sounds]
    assert 10 < sum(quick) < len(quick) - 10
