from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode
from asr.errors import DataError
from tests.asr.sounds import encoded

pytestmark = pytest.mark.medium

SECONDS, LOW_HZ, HZ_PER_S, RATE = 12.0, 300.0, 250.0, 48_000
LOSING = AudioLimits(max_damaged_share=0.5)

SEEKABLE = [
    ("pcm_s16le", "wav"),
    ("adpcm_ms", "wav"),
    ("adpcm_ima_wav", "w64"),
    ("adpcm_ima_qt", "aiff"),
    ("flac", "caf"),
    ("libmp3lame", "mp3"),
    ("aac", "adts"),
    ("aac", "latm"),
    ("ac3", "ac3"),
    ("aac", "mp4"),
    ("libopus", "ogg"),
    ("flac", "matroska"),
    ("aac", "mpegts"),
    ("ac3", "vob"),
    ("mp2", "vob"),
    ("libmp3lame", "asf"),
    ("libmp3lame", "avi"),
    ("wavpack", "wv"),
]
RAW = [("libmp3lame", "mp3"), ("aac", "adts"), ("ac3", "ac3"), ("mp2", "mp2")]


def sweep(folder: Path, codec: str, container: str) -> bytes:
    """A tone that rises evenly, so that its height tells where one is."""
    times = np.arange(round(SECONDS * RATE)) / RATE
    waveform = 0.5 * np.sin(2 * np.pi * (LOW_HZ * times + HZ_PER_S / 2 * times**2))
    return encoded(folder / f"{codec}.{container}", waveform.astype(np.float32), codec, container).read_bytes()


def middle_s(waveform: np.ndarray) -> float:
    """Return the time, in seconds of the sweep, that is heard in the middle of ``waveform``."""
    half = round(0.15 * SAMPLE_RATE)
    centre = len(waveform) // 2
    window = waveform[centre - half : centre + half] * np.hanning(2 * half)
    peak = int(np.argmax(np.abs(np.fft.rfft(window, 1 << 16))))
    return (peak * SAMPLE_RATE / (1 << 16) - LOW_HZ) / HZ_PER_S


def stretch(data: bytes | Path, start_s: float, end_s: float) -> np.ndarray:
    return decode(data, start_s=start_s, end_s=end_s, limits=LOSING)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(("codec", "container"), SEEKABLE)
def test_a_stretch_is_the_sound_of_its_time(tmp_path: Path, codec: str, container: str, on_disk: bool) -> None:
    """ADPCM in WAV came from seconds away, AC-3 in MPEG not at all: FFmpeg reckons there by the mean of bytes."""
    data: bytes | Path = sweep(tmp_path, codec, container)
    if on_disk:
        data = tmp_path / f"{codec}.{container}"
    for start_s in (0.3, 3.21, 7.77, 10.9):
        part = stretch(data, start_s, start_s + 0.8)
        assert len(part) == round(0.8 * SAMPLE_RATE)
        assert middle_s(part) == pytest.approx(start_s + 0.4, abs=0.06)


@pytest.mark.parametrize(("codec", "container"), RAW)
@pytest.mark.parametrize("kind", ["zeros", "noise", "inserted", "missing"])
def test_a_stretch_behind_damage_is_where_the_whole_has_it(
    tmp_path: Path, codec: str, container: str, kind: str
) -> None:
    whole = sweep(tmp_path, codec, container)
    at, count = len(whole) // 3, 8_000
    junk = np.random.default_rng(1).bytes(count)
    data = {
        "zeros": whole[:at] + bytes(count) + whole[at + count :],
        "noise": whole[:at] + junk + whole[at + count :],
        "inserted": whole[:at] + junk + whole[at:],
        "missing": whole[:at] + whole[at + count :],
    }[kind]
    path = tmp_path / "damaged"
    path.write_bytes(data)
    try:
        heard = decode(data, limits=LOSING)
    except DataError as error:
        assert error.reason == "truncated" and container == "mp3"  # its header counts the frames
        return
    for source in (data, path, path):  # what was found out about a file on disk is kept
        for start_s in (1.5, 6.0, 8.5):
            part = stretch(source, start_s, start_s + 0.8)
            same = heard[round(start_s * SAMPLE_RATE) :][: len(part)]
            assert middle_s(part) == pytest.approx(middle_s(same), abs=0.02)


@pytest.mark.parametrize(("codec", "container"), [("libmp3lame", "mp3"), ("aac", "adts")])
def test_a_stretch_of_the_second_of_two_joined_files(tmp_path: Path, codec: str, container: str) -> None:
    part = sweep(tmp_path, codec, container)
    title = b"ID3\x04\x00\x00\x00\x00\x04\x00" + bytes(512)
    for between in (b"", title):
        heard = decode(part + between + part)
        for start_s in (4.0, 16.0, 20.5):
            found = stretch(part + between + part, start_s, start_s + 0.8)
            assert middle_s(found) == pytest.approx(middle_s(heard[round(start_s * 16_000) :][:12_800]), abs=0.02)
            assert middle_s(found) == pytest.approx((start_s + 0.4) % SECONDS, abs=0.1)


def test_a_file_that_was_replaced_is_looked_at_anew(tmp_path: Path) -> None:
    path, whole = tmp_path / "talk.mp3", sweep(tmp_path, "libmp3lame", "mp3")
    path.write_bytes(whole)
    assert middle_s(stretch(path, 8.0, 8.8)) == pytest.approx(8.4, abs=0.05)
    at = len(whole) // 3
    path.write_bytes(whole[:at] + bytes(8_000) + whole[at:])
    heard = decode(path, limits=LOSING)
    assert middle_s(stretch(path, 8.0, 8.8)) == pytest.approx(middle_s(heard[128_000:140_800]), abs=0.02)


def test_a_stretch_beyond_the_end_has_no_samples(tmp_path: Path) -> None:
    for codec, container in (("libmp3lame", "mp3"), ("flac", "flac"), ("adpcm_ms", "wav"), ("mp2", "vob")):
        with pytest.raises(DataError, match="no_samples"):
            decode(sweep(tmp_path, codec, container), start_s=100.0)
