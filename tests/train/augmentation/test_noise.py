from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.errors import UserError
from asr.utterance import Utterance
from train.augmentation.noise import Noise, _Recordings, recordings, require, with_noise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A long, a short and a silent recording, and what else lies in such folders."""
    rng = np.random.default_rng(0)
    (tmp_path / "street").mkdir()
    for name, seconds in (("long", 20.0), ("street/short", 0.5)):
        level = np.linspace(0.02, 0.3, round(seconds * SAMPLE_RATE))
        (tmp_path / f"{name}.flac").write_bytes(encode_flac(rng.standard_normal(len(level)) * level / 3))
    (tmp_path / "LICENSE.txt").write_text("CC BY 4.0")
    return tmp_path


@pytest.fixture(scope="module")
def speech(english_clips: list[Utterance]) -> np.ndarray:
    return decode(english_clips[0].audio)


def snr_db(speech: np.ndarray, noisy: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(speech**2) / np.mean((noisy - speech) ** 2)))


@pytest.mark.parametrize("asked", [0.0, 10.0, 20.0])
def test_the_ratio_is_the_one_asked_for(folder: Path, speech: np.ndarray, asked: float) -> None:
    config = Noise(probability=1.0, folder=str(folder), min_snr_db=asked, max_snr_db=asked)
    for seed in range(8):
        noisy = with_noise(speech, config, np.random.default_rng(seed))
        assert noisy.dtype == np.float32 and len(noisy) == len(speech)
        assert snr_db(speech, noisy) == pytest.approx(asked, abs=0.1)


def test_ratio_recording_and_stretch_are_drawn(folder: Path, speech: np.ndarray) -> None:
    config = Noise(probability=1.0, folder=str(folder), min_snr_db=5, max_snr_db=15)
    heard = [with_noise(speech, config, np.random.default_rng(seed)) for seed in range(30)]
    ratios = [snr_db(speech, noisy) for noisy in heard]
    assert 5 <= min(ratios) < 7 and 13 < max(ratios) <= 15.01
    period = SAMPLE_RATE // 2
    repeats = [np.allclose(n[:period], n[period : 2 * period], atol=1e-4) for n in (noisy - speech for noisy in heard)]
    assert any(repeats) and not all(repeats)  # the short recording goes round, the long one does not


def test_silence_has_no_ratio(tmp_path: Path, speech: np.ndarray, folder: Path) -> None:
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    (quiet / "silence.flac").write_bytes(encode_flac(np.zeros(SAMPLE_RATE)))
    config = Noise(probability=1.0, folder=str(quiet))
    assert np.array_equal(with_noise(speech, config, np.random.default_rng(0)), speech)
    nothing = np.zeros(SAMPLE_RATE, np.float32)
    loud = Noise(probability=1.0, folder=str(folder))
    assert np.array_equal(with_noise(nothing, loud, np.random.default_rng(0)), nothing)


def test_only_audio_is_taken_from_the_folder(folder: Path) -> None:
    assert [Path(uri).name for uri in recordings(str(folder))] == ["long.flac", "short.flac"]
    require(Noise(probability=0.5, folder=str(folder)))


def test_a_folder_without_noise_or_with_a_broken_file_is_refused_before_training(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no audio file"):
        require(Noise(probability=0.5, folder=str(tmp_path / "empty")))
    (folder / "broken.wav").write_bytes(b"RIFF, so to speak")
    recordings.cache_clear()
    with pytest.raises(UserError, match=r"augment.noise.folder: not_audio: .*broken.wav"):
        require(Noise(probability=0.5, folder=str(folder)))
    require(Noise(folder=str(folder)))  # it is off


def test_a_recording_that_disappears_is_a_persons_matter(folder: Path, speech: np.ndarray) -> None:
    config = Noise(probability=1.0, folder=str(folder))
    recordings(str(folder))
    for path in folder.rglob("*.flac"):
        path.unlink()
    with pytest.raises(UserError, match="missing_file"):
        with_noise(speech, config, np.random.default_rng(0))


@pytest.mark.medium
def test_a_recording_damaged_behind_its_beginning_ended_a_run_hours_in(
    folder: Path, speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    whole = (folder / "long.flac").read_bytes()
    (folder / "long.flac").write_bytes(whole[: len(whole) // 2])
    config = Noise(probability=1.0, folder=str(folder))
    require(config)
    for seed in range(8):
        noisy = with_noise(speech, config, np.random.default_rng(seed))
        assert snr_db(speech, noisy) > 4  # the other one is heard
    (said,) = caplog.messages
    assert "long.flac" in said and "another recording is taken in its place" in said


def test_no_more_than_a_bound_is_kept(folder: Path) -> None:
    long, short = recordings(str(folder))
    kept = _Recordings(max_bytes=int(20.2 * SAMPLE_RATE * 4))
    first = kept.get(long)
    assert kept.get(long) is first
    kept.get(short)
    assert list(kept.waveforms) == [short]
    assert kept.bytes == SAMPLE_RATE // 2 * 4


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValidationError, match="set folder"):
        Noise(probability=0.5)
    with pytest.raises(ValidationError, match="min_snr_db=20 is over max_snr_db=10"):
        Noise(min_snr_db=20, max_snr_db=10)
