from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.errors import UserError
from asr.models.family import SpeechModel
from asr.utterance import Utterance
from train.augmentation.augment import Augmentation, Gain, Spec, SpeedPerturbation, augment, mask, require, speeds
from train.augmentation.noise import Noise
from train.augmentation.telephone import Telephone

IDS = [f"clip/{number}" for number in range(4000)]
ALWAYS = Spec(probability=1.0)


@pytest.fixture(scope="module")
def speech(english_clips: list[Utterance]) -> np.ndarray:
    return decode(english_clips[0].audio)


@pytest.fixture(scope="module")
def features(tiny_en: SpeechModel, speech: np.ndarray) -> np.ndarray:
    return tiny_en.features(speech)


@pytest.fixture
def everything(tmp_path: Path) -> Augmentation:
    hiss = np.random.default_rng(1).uniform(-0.1, 0.1, 2 * SAMPLE_RATE)
    (tmp_path / "hiss.flac").write_bytes(encode_flac(hiss))
    return Augmentation(
        speed=SpeedPerturbation(probability=1.0),
        noise=Noise(probability=0.5, folder=str(tmp_path)),
        telephone=Telephone(probability=0.5),
        gain=Gain(probability=0.5),
        spec=ALWAYS,
    )


def centroid_hz(waveform: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return float((power * np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)).sum() / power.sum())


def hidden(features: np.ndarray, masked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which mel bins and which frames are constant where they were not."""
    flat_bins = (masked == masked[:, :1]).all(axis=1) & ~(features == features[:, :1]).all(axis=1)
    flat_frames = (masked == masked[:1]).all(axis=0) & ~(features == features[:1]).all(axis=0)
    return np.flatnonzero(flat_bins), np.flatnonzero(flat_frames)


def test_off_by_default(speech: np.ndarray, features: np.ndarray) -> None:
    config = Augmentation()
    assert augment(speech, "a", config, 0, 0) is speech
    assert mask(features, "a", config, 0, 0) is features
    assert (speeds(IDS, config, 0, 0) == 1.0).all()
    require(config)


def test_same_seed_id_and_epoch_same_bits_anything_else_another_draw(
    speech: np.ndarray, features: np.ndarray, everything: Augmentation
) -> None:
    before = speech.copy()
    for number in range(12):
        first = augment(speech, f"{number}", everything, 3, 1)
        assert first.dtype == np.float32 and np.isfinite(first).all() and np.abs(first).max() <= 1.0
        assert np.array_equal(first, augment(speech, f"{number}", everything, 3, 1))
        assert np.array_equal(mask(features, "a", everything, 3, number), mask(features, "a", everything, 3, number))
    assert np.array_equal(before, speech)
    draws = [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0)]
    masks = [mask(features, id, everything, seed, epoch) for id, seed, epoch in draws]
    gains = Augmentation(gain=Gain(probability=1.0))
    heard = [augment(speech, id, gains, seed, epoch) for id, seed, epoch in draws]
    for one in range(4):
        for other in range(one):
            assert not np.array_equal(masks[one], masks[other])
            assert not np.array_equal(heard[one], heard[other])


def test_one_effect_leaves_the_draws_of_another(speech: np.ndarray) -> None:
    speed, gain = SpeedPerturbation(probability=1.0), Gain(probability=1.0, min_db=-10, max_db=-1)
    alone = augment(speech, "a", Augmentation(speed=speed), 0, 0)
    both = augment(speech, "a", Augmentation(speed=speed, gain=gain), 0, 0)
    ratio = both / np.where(alone == 0, 1, alone)
    assert len(both) == len(alone)
    assert np.ptp(ratio[np.abs(alone) > 0.01]) < 1e-3


def test_speeds_are_those_that_augment_applies(speech: np.ndarray) -> None:
    config = Augmentation(speed=SpeedPerturbation(probability=0.7, factors=(0.85, 1.0, 1.25)))
    ids = IDS[:40]
    planned = speeds(ids, config, 5, 2)
    assert set(planned) == {0.85, 1.0, 1.25}
    for id, speed in zip(ids, planned, strict=True):
        assert len(augment(speech, id, config, 5, 2)) == round(len(speech) / speed)
    assert np.array_equal(speeds(ids[::-1], config, 5, 2), planned[::-1])


def test_factors_are_drawn_as_often_as_asked() -> None:
    config = Augmentation(speed=SpeedPerturbation(probability=0.6))
    drawn = speeds(IDS, config, 0, 0)
    for factor, share in ((0.9, 0.2), (1.0, 0.6), (1.1, 0.2)):
        assert np.mean(drawn == factor) == pytest.approx(share, abs=0.03)
    agreeing = np.mean(drawn == speeds(IDS, config, 0, 1))
    assert agreeing == pytest.approx(0.2**2 + 0.6**2 + 0.2**2, abs=0.03)  # independent from epoch to epoch
    assert speeds([], config, 0, 0).shape == (0,)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_length_and_pitch(speech: np.ndarray, factor: float) -> None:
    heard = augment(speech, "a", Augmentation(speed=SpeedPerturbation(probability=1.0, factors=(factor,))), 0, 0)
    assert len(heard) == round(len(speech) / factor)
    assert centroid_hz(heard) == pytest.approx(factor * centroid_hz(speech), rel=0.03)
    stretched = np.interp(np.arange(len(heard)) * factor, np.arange(len(speech)), speech)
    assert np.corrcoef(heard, stretched)[0, 1] > 0.99  # nothing is shifted


def test_gain_is_within_its_range_and_clipped(speech: np.ndarray) -> None:
    quiet = speech * 0.1
    config = Augmentation(gain=Gain(probability=1.0, min_db=-6, max_db=6))
    levels = [20 * np.log10(np.std(augment(quiet, id, config, 0, 0)) / np.std(quiet)) for id in IDS[:100]]
    assert -6.01 <= min(levels) < -5 and 5 < max(levels) <= 6.01
    loud = augment(speech, "a", Augmentation(gain=Gain(probability=1.0, min_db=40, max_db=40)), 0, 0)
    assert loud.max() == 1.0 and loud.min() == -1.0


def test_telephone_and_noise_are_applied_in_their_order(speech: np.ndarray, everything: Augmentation) -> None:
    """Noise goes through the telephone too: nothing of it is left above 4 kHz."""
    noise = everything.noise.model_copy(update={"probability": 1.0, "min_snr_db": 0.0, "max_snr_db": 0.0})
    noisy = augment(speech, "a", Augmentation(noise=noise), 0, 0)
    line = augment(speech, "a", Augmentation(noise=noise, telephone=Telephone(probability=1.0)), 0, 0)

    def share_above_4_khz(waveform: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return float(power[np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE) > 4100].sum() / power.sum())

    assert share_above_4_khz(noisy) > 0.1
    assert share_above_4_khz(line) < 1e-3


def test_masks_stay_within_their_bounds(features: np.ndarray) -> None:
    config = Augmentation(spec=Spec(probability=1.0, max_frequency_bins=20, max_time_frames=30, max_time_share=0.1))
    frames = features.shape[1]
    widths, lengths = [], []
    for epoch in range(60):
        masked = mask(features, "a", config, 0, epoch)
        assert masked.shape == features.shape and masked.dtype == np.float16
        bins, hidden_frames = hidden(features, masked)
        widths.append(len(bins))
        lengths.append(len(hidden_frames))
        changed = masked != features
        assert np.isin(np.flatnonzero(changed.any(axis=1) & changed.all(axis=1)), bins).all()
        untouched = np.delete(np.delete(masked, bins, axis=0), hidden_frames, axis=1)
        assert np.array_equal(untouched, np.delete(np.delete(features, bins, axis=0), hidden_frames, axis=1))
        assert (masked[bins] == np.float16(features.mean(dtype=np.float64))).all()
    assert 0 < max(widths) <= 40
    assert 0 < max(lengths) <= min(60, 0.1 * frames)


def test_a_short_clip_keeps_its_words(features: np.ndarray) -> None:
    config = Augmentation(spec=Spec(probability=1.0, frequency_masks=0, time_masks=3, max_time_share=0.3))
    for frames in (1, 5, 20, 50):
        clip = features[:, 100 : 100 + frames]
        for epoch in range(20):
            assert (mask(clip, "a", config, 0, epoch) != clip).any(axis=0).sum() <= 0.3 * frames


def test_what_would_fail_in_the_middle_of_a_run_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        require(Augmentation(noise=Noise(probability=0.1, folder=str(tmp_path / "none"))))
    with pytest.raises(UserError, match="cannot encode"):
        require(Augmentation(telephone=Telephone.model_construct(probability=1.0, codecs=("morse",))))


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (SpeedPerturbation, {"factors": [1.0, 3.0]}, "3 is not between 0.5 and 2"),
        (Gain, {"min_db": 3.0, "max_db": 1.0}, "min_db=3 is over max_db=1"),
        (Spec, {"frequency_masks": 3}, "may hide all of the 80 mel bins"),
    ],
)
def test_settings_that_make_no_sense(section: type, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        section(**settings)
