from __future__ import annotations

import io
import os
import struct
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode, encode_flac
from asr.errors import DataError
from asr.sound import SoundChoice
from tests.asr.sounds import CODECS, FLOAT, PCM, TONE_HZ, encoded, riff, tone, wav16


def peak_hz(waveform: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(waveform)))) * SAMPLE_RATE / len(waveform)


def assert_is_tone(waveform: np.ndarray, seconds: float, slack: int = 400) -> None:
    """The sound itself survived: length, pitch, and level (a sine of amplitude 0.5 has an RMS of 0.3536).

    Six per cent are half a decibel: LAME scales its input by 0.95 at this bit rate.
    """
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert abs(len(waveform) - seconds * SAMPLE_RATE) <= slack
    assert peak_hz(waveform) == pytest.approx(TONE_HZ, abs=2.0)
    middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(0.3536, rel=0.06)


def reason(source: str | Path | bytes, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        decode(source, **options)  # type: ignore[arg-type]
    assert "\n" not in caught.value.detail
    assert (source if isinstance(source, str) else "bytes" if isinstance(source, bytes) else str(source)) in str(
        caught.value.detail
    )
    return caught.value.reason


@pytest.mark.parametrize("name", CODECS)
def test_a_tone_survives_every_codec(tmp_path: Path, name: str) -> None:
    path = encoded(tmp_path / name, tone(2.0, 48_000), *CODECS[name])
    assert_is_tone(decode(path), 2.0)
    assert np.array_equal(decode(path), decode(path.read_bytes()))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_gives_the_right_number_of_samples(rate: int) -> None:
    assert_is_tone(decode(wav16(tone(1.0, rate), rate)), 1.0, slack=1)


@pytest.mark.parametrize(
    ("bits", "kind"),
    [(24, PCM), (32, PCM), (32, FLOAT), (64, FLOAT)],
)
def test_wide_and_float_wav(bits: int, kind: int) -> None:
    samples = tone(1.0)
    if kind == FLOAT:
        data = samples.astype(f"<f{bits // 8}").tobytes()
    else:
        whole = (samples.astype(np.float64) * 2**31).astype("<i4").tobytes()
        data = b"".join(whole[i + 4 - bits // 8 : i + 4] for i in range(0, len(whole), 4))
    assert_is_tone(decode(riff(data, bits=bits, kind=kind)), 1.0, slack=0)


def test_wave_module_file_by_path_and_by_file_address(tmp_path: Path) -> None:
    path = tmp_path / "a clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes((tone(1.0, 8_000) * 32767).astype("<i2").tobytes())
    assert_is_tone(decode(path), 1.0)
    assert np.array_equal(decode(path), decode(path.as_uri()))


@pytest.mark.parametrize("channels", [2, 3, 6, 8, 32])
def test_channels_are_averaged(channels: int) -> None:
    """Eight and more: reading planar data of so many channels is a segmentation fault in PyAV 18.1."""
    silent_but_one = np.zeros((SAMPLE_RATE, channels), np.float32)
    silent_but_one[:, -1] = tone(1.0)
    waveform = decode(wav16(silent_but_one, channels=channels))
    assert float(np.abs(waveform).max()) == pytest.approx(0.5 / channels, rel=0.01)
    assert_is_tone(decode(wav16(np.repeat(tone(1.0)[:, None], channels, axis=1), channels=channels)), 1.0)


def test_a_mix_of_opposite_channels_is_silence_where_it_is_asked_for() -> None:
    stereo = np.stack([tone(1.0), -tone(1.0)], axis=1)
    assert float(np.abs(decode(wav16(stereo, channels=2), choice=SoundChoice(channel="mix"))).max()) < 1e-4


def test_flac_round_trip_keeps_16_bits() -> None:
    waveform = np.random.default_rng(0).uniform(-0.999, 0.999, 12_345).astype(np.float32)
    again = decode(encode_flac(waveform))
    assert again.shape == waveform.shape
    assert float(np.abs(again - waveform).max()) <= 0.5 / 32768 + 1e-7
    assert np.array_equal(decode(encode_flac(again)), again)


def test_flac_clips_instead_of_wrapping() -> None:
    loud = np.array([2.0, -2.0] * 400, np.float32)
    assert decode(encode_flac(loud)).tolist() == [32767 / 32768, -1.0] * 400


def test_raw_g722_needs_its_name(tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.g722", tone(2.0), "g722", "g722", rate=16_000)
    assert_is_tone(decode(path), 2.0)
    assert_is_tone(decode(path.read_bytes(), container="g722"), 2.0)
    path = path.rename(tmp_path / "clip.raw")
    assert_is_tone(decode(path, container="g722"), 2.0)
    assert reason(path) in ("not_audio", "corrupt", "too_short", "no_samples")


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really-a-wav.mp3"
    path.write_bytes(wav16(tone(1.0)))
    assert_is_tone(decode(path), 1.0)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["wav", *CODECS, "g722"])
def test_a_stretch_is_the_same_as_cutting_the_whole(tmp_path: Path, name: str) -> None:
    rate = 16_000 if name == "g722" else 48_000
    noise = np.random.default_rng(0).standard_normal(12 * rate).astype(np.float32)
    smooth = (np.convolve(noise, np.ones(80) / 80, "same") * 0.5).astype(np.float32)  # what every codec keeps
    codec = {"wav": ("pcm_s16le", "wav"), "g722": ("g722", "g722"), **CODECS}[name]
    path = encoded(tmp_path / name, smooth, *codec, rate=rate)
    container = "g722" if name == "g722" else None
    whole = decode(path, container=container)
    stretch = decode(path, start_s=7.25, end_s=9.0, container=container)
    assert len(stretch) == 1.75 * SAMPLE_RATE
    begin = int(7.25 * SAMPLE_RATE)
    match = max(
        float(np.corrcoef(whole[begin + shift : begin + shift + len(stretch)], stretch)[0, 1])
        for shift in range(-32, 33)
    )
    assert match > 0.97
    assert len(decode(path, start_s=7.25, container=container)) == pytest.approx(len(whole) - begin, abs=64)


def test_a_stretch_beyond_the_end() -> None:
    clip = wav16(tone(2.0))
    assert reason(clip, start_s=5.0) == "no_samples"
    assert reason(clip, start_s=1.0, end_s=4.0) == "truncated"
    assert len(decode(clip, start_s=1.0, end_s=2.1)) == SAMPLE_RATE  # manifests round


def test_missing(tmp_path: Path) -> None:
    assert reason(tmp_path / "no.wav") == "missing_file"
    assert reason(tmp_path) == "missing_file"
    os.mkfifo(tmp_path / "pipe.wav")
    assert reason(tmp_path / "pipe.wav") == "missing_file"


@pytest.mark.parametrize(
    "address", ["http://localhost:9/a.wav", "concat:a.wav|b.wav", "pipe:0", "subfile,,start,0,end,9,,:a"]
)
def test_ffmpeg_protocols_are_only_odd_file_names(address: str) -> None:
    assert reason(address) == "missing_file"


def test_empty_and_text(tmp_path: Path) -> None:
    assert reason(b"") == "empty_file"
    for name, text in {
        "text.wav": "Buongiorno a tutti. " * 200,
        "subs.wav": "1\n00:00:01,000 --> 00:00:02,000\nhi\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert reason(tmp_path / name) == "not_audio"


def test_too_few_samples() -> None:
    assert reason(wav16(tone(0.0))) == "no_samples"
    assert reason(wav16(np.array([0.5]))) == "too_short"
    assert reason(wav16(tone(0.4)), limits=AudioLimits(min_audio_s=0.5)) == "too_short"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_non_finite(value: float, rate: int) -> None:
    samples = tone(1.0, rate)
    samples[100] = value
    stereo = np.stack([samples, -samples], axis=1)
    assert reason(riff(samples.astype("<f4").tobytes(), rate, bits=32, kind=FLOAT)) == "non_finite"
    assert reason(riff(stereo.astype("<f4").tobytes(), rate, channels=2, bits=32, kind=FLOAT)) == "non_finite"


@pytest.mark.parametrize("name", ["wav", "mp3", "flac", "opus", "faststart", "webm", "aiff"])
def test_truncated(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "faststart" else {}
    codec = {"wav": ("pcm_s16le", "wav"), "faststart": ("aac", "mp4"), **CODECS}[name]
    path = encoded(tmp_path / name, tone(5.0, 48_000), *codec, **options)
    assert_is_tone(decode(path), 5.0)
    whole = path.read_bytes()
    assert reason(whole[: int(len(whole) * 0.6)]) == "truncated"


def test_a_wav_streamed_to_a_pipe_is_not_truncated() -> None:
    clip = wav16(tone(1.0))
    at = clip.index(b"data") + 4
    for size in (b"\xff" * 4, b"\0" * 4):
        assert_is_tone(decode(clip[:4] + size + clip[8:at] + size + clip[at + 4 :]), 1.0)


def test_corrupt_in_the_middle(tmp_path: Path) -> None:
    whole = bytearray(encoded(tmp_path / "a.flac", tone(10.0, 48_000), "flac", "flac").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 4000] = os.urandom(4000)
    assert reason(bytes(whole)) in ("corrupt", "truncated")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_files_are_data_errors_or_sound(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    name = list(CODECS)[seed % len(CODECS)]
    whole = bytearray(encoded(tmp_path / name, tone(1.0, 48_000), *CODECS[name]).read_bytes())
    for position in rng.integers(0, len(whole), 20):
        whole[position] = rng.integers(0, 256)
    try:
        assert np.isfinite(decode(bytes(whole))).all()
    except DataError as error:
        assert error.reason in ("not_audio", "corrupt", "truncated", "no_samples", "too_short", "too_large", "too_long")


@pytest.mark.medium
def test_ten_minutes_are_fine_by_default_and_refused_early_when_limited(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav16(np.tile(tone(1.0, 8_000), 600), 8_000))
    assert len(decode(path)) == pytest.approx(600 * SAMPLE_RATE, abs=2)
    began = time.perf_counter()
    assert reason(path, limits=AudioLimits(max_audio_s=30.0)) == "too_long"
    assert time.perf_counter() - began < 0.5
    assert len(decode(path, start_s=580.0, end_s=590.0, limits=AudioLimits(max_audio_s=30.0))) == 10 * SAMPLE_RATE


@pytest.mark.medium
def test_the_seconds_cap_holds_while_decoding_when_no_header_tells(tmp_path: Path) -> None:
    """Low-rate Opus is the known bomb: here 60 s of silence in a few hundred bytes a second, and no length given."""
    path = encoded(tmp_path / "bomb.opus", np.zeros(60 * 48_000, np.float32), "libopus", "ogg")
    assert path.stat().st_size < 60_000
    assert reason(path, limits=AudioLimits(max_audio_s=20.0)) == "too_long"


def test_the_byte_cap(tmp_path: Path) -> None:
    clip = wav16(tone(1.0))
    (tmp_path / "a.wav").write_bytes(clip)
    small = AudioLimits(max_bytes=len(clip) - 1)
    assert reason(clip, limits=small) == "too_large"
    assert reason(tmp_path / "a.wav", limits=small) == "too_large"
    assert_is_tone(decode(clip, limits=AudioLimits(max_bytes=len(clip))), 1.0)


def test_the_source_sample_cap() -> None:
    stereo = np.zeros((48_000, 2), np.float32)
    assert reason(wav16(stereo, 48_000, 2), limits=AudioLimits(max_source_samples=90_000)) == "too_large"
    assert len(decode(wav16(stereo, 48_000, 2), limits=AudioLimits(max_source_samples=96_000))) == SAMPLE_RATE


@pytest.mark.parametrize("rate", [1, 100, 2_000_000_000])
def test_forged_rates(rate: int) -> None:
    began = time.perf_counter()
    assert reason(wav16(tone(1.0), rate)) == "corrupt"
    assert time.perf_counter() - began < 1.0


def test_forged_channels() -> None:
    assert reason(riff(b"\0" * 2 * 65 * 1000, channels=65)) == "unsupported"


@pytest.mark.medium
def test_many_tiny_chunks_do_not_hang() -> None:
    clip = wav16(tone(1.0))
    at = clip.index(b"data")
    began = time.perf_counter()
    assert_is_tone(decode(clip[:at] + b"junk\0\0\0\0" * 100_000 + clip[at:]), 1.0)
    assert time.perf_counter() - began < 2.0


def test_latin_1_tags_do_not_matter() -> None:
    clip = wav16(tone(1.0))
    title = b"LIST" + struct.pack("<I", 4 + 8 + 6) + b"INFOINAM" + struct.pack("<I", 6) + "perch\xe9".encode("latin-1")
    at = clip.index(b"data")
    assert_is_tone(decode(io.BytesIO(clip[:at] + title + clip[at:]).getvalue()), 1.0)
