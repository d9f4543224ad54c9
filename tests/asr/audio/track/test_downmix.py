from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.decode import SAMPLE_RATE, decode, decode_to
from asr.errors import DataError
from asr.sound import SoundChoice, SoundReport
from tests.asr.sounds import riff, tone, wav16

SPEECH = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
OTHER = np.random.default_rng(1).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)


def heard(*channels: np.ndarray, channel: str = "auto") -> tuple[np.ndarray, SoundReport]:
    blocks: list[np.ndarray] = []
    data = wav16(np.stack(channels, axis=1), channels=len(channels))
    report = decode_to(blocks.append, data, choice=SoundChoice(channel=channel))
    return np.concatenate(blocks), report


def test_one_channel_inverted_was_silence_with_a_transcript() -> None:
    waveform, report = heard(SPEECH, -SPEECH)
    assert np.abs(waveform - SPEECH).max() < 1e-3
    assert (report.channel, report.channels) == ("0", 2)
    assert report.warnings == ("the channels cancel each other for 2.00 s: channel 0 was taken there",)


@pytest.mark.medium
@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.floats(0.71, 1.4), st.data())
def test_whatever_cancels_the_speech_is_as_loud_as_on_one_channel(count: int, gain: float, data: st.DataObject) -> None:
    inverted = data.draw(st.permutations([-gain] * (count // 2) + [1.0] * (count // 2) + [0.0] * (count % 2)))
    waveform, _ = heard(*(each * SPEECH for each in inverted))
    assert waveform.std() > 0.5 * SPEECH.std()


HUM = (0.05 * np.sin(2 * np.pi * 50 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)


@pytest.mark.parametrize(
    "shared", [np.full_like(SPEECH, 0.1), HUM, 4 * HUM, 0.15 * OTHER], ids=["offset", "hum", "loud", "hiss"]
)
def test_what_the_channels_share_hides_no_speech_that_cancels(shared: np.ndarray) -> None:
    waveform, _ = heard(SPEECH + shared, shared - SPEECH)
    assert abs(float(np.corrcoef(waveform - shared, SPEECH)[0, 1])) > 0.95


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ((SPEECH, SPEECH), SPEECH),
        ((SPEECH, OTHER), (SPEECH + OTHER) / 2),
        ((SPEECH, 0 * SPEECH), SPEECH / 2),
        ((SPEECH, -SPEECH / 2), SPEECH / 4),
        ((0 * SPEECH, 0 * SPEECH), 0 * SPEECH),
    ],
)
def test_what_does_not_cancel_is_mixed(channels: tuple[np.ndarray, ...], expected: np.ndarray) -> None:
    waveform, report = heard(*channels)
    assert np.abs(waveform - expected).max() < 1e-3
    assert (report.channel, report.warnings) == ("mix", ())


def test_half_of_a_file_that_cancels_is_not_lost() -> None:
    sign = np.where(np.arange(len(SPEECH)) < SAMPLE_RATE, 1, -1).astype(np.float32)
    waveform, report = heard(SPEECH, sign * SPEECH)
    assert np.corrcoef(waveform, SPEECH)[0, 1] > 0.95
    assert "the channels cancel each other for" in report.warnings[0]


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("left", SPEECH), ("0", SPEECH), ("right", OTHER), ("1", OTHER), ("mix", (SPEECH + OTHER) / 2)],
)
def test_a_channel_that_is_asked_for(channel: str, expected: np.ndarray) -> None:
    waveform, report = heard(SPEECH, OTHER, channel=channel)
    assert np.abs(waveform - expected).max() < 1e-3
    assert waveform.flags.c_contiguous and not report.warnings


def test_a_channel_that_is_not_there() -> None:
    for channel, there in (("2", "2 channels"), ("right", "one channel")):
        with pytest.raises(DataError, match=there) as caught:
            heard(*(SPEECH, OTHER)[: 2 if channel == "2" else 1], channel=channel)
        assert caught.value.reason == "no_channel"


def test_sixty_channels_were_called_corrupt() -> None:
    pcm = np.repeat((tone(1.0) * 32767).astype("<i2")[:, None], 60, axis=1)
    assert decode(riff(pcm.tobytes(), channels=60)).std() == pytest.approx(tone(1.0).std(), rel=0.01)


@pytest.mark.medium
def test_sound_at_another_rate_has_the_same_length_whatever_is_taken(make_wav: Callable[[str], bytes]) -> None:
    lengths = {channel: len(decode(make_wav(channel), choice=SoundChoice(channel=channel))) for channel in CHANNELS}
    assert set(lengths.values()) == {3 * SAMPLE_RATE}


CHANNELS = ("auto", "mix", "left", "right")


@pytest.fixture
def make_wav() -> Callable[[str], bytes]:
    stereo = np.stack([tone(3.0, 44_100), -tone(3.0, 44_100)], axis=1)
    return lambda channel: wav16(stereo, 44_100, channels=2)
