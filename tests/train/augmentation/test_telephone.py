from __future__ import annotations

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode
from asr.errors import UserError
from asr.utterance import Utterance
from train.augmentation.telephone import Codec, Telephone, available, require, through_telephone


@pytest.fixture(scope="module")
def speech(english_clips: list[Utterance]) -> np.ndarray:
    return decode(english_clips[3].audio)


def power(waveform: np.ndarray, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    hz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    return float(spectrum[(hz >= low_hz) & (hz < high_hz)].sum())


def test_the_default_codecs_are_there() -> None:
    assert set(Telephone().codecs) <= set(available())
    require(Telephone(probability=1.0))


@pytest.mark.parametrize("codec", available())
@pytest.mark.parametrize("samples", [1, 159, 8001, 48_000])
def test_the_length_stays(speech: np.ndarray, codec: Codec, samples: int) -> None:
    heard = through_telephone(speech[:samples], codec)
    assert heard.shape == (samples,) and heard.dtype == np.float32 and np.isfinite(heard).all()


@pytest.mark.parametrize("codec", available())
def test_speech_below_4_khz_remains_and_nothing_above(speech: np.ndarray, codec: Codec) -> None:
    heard = through_telephone(speech, codec)
    assert power(heard, 4100, 8000) < 3e-3 * power(speech, 4100, 8000)
    assert power(heard, 200, 3400) == pytest.approx(power(speech, 200, 3400), rel=0.3)
    assert not np.allclose(heard, speech, atol=1e-4)
    assert np.array_equal(heard, through_telephone(speech, codec))


@pytest.mark.parametrize("codec", available())
def test_nothing_is_shifted(speech: np.ndarray, codec: Codec) -> None:
    """Within 1 ms: timestamps stay true, and the end of the last word is there."""
    size = 2 * len(speech)
    heard = through_telephone(speech, codec)
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(speech, size)), size)
    shift = int(np.argmax(correlation))
    assert min(shift, size - shift) <= SAMPLE_RATE // 1000


def test_mulaw_has_256_levels(speech: np.ndarray) -> None:
    coarse = through_telephone(speech, "mulaw")[::2]
    assert np.std(coarse - speech[::2]) > 1e-4


def test_a_codec_that_this_machine_cannot_encode_is_refused_before_training() -> None:
    if "gsm" in available():  # a build of FFmpeg with libgsm
        require(Telephone(probability=0.1, codecs=("gsm",)))
        return
    with pytest.raises(UserError, match=r"cannot encode gsm \(use amr_nb"):
        require(Telephone(probability=0.1, codecs=("gsm",)))
    require(Telephone(codecs=("gsm",)))  # it is off
