from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode
from asr.errors import DataError
from tests.asr.sounds import LENIENT, Voice, heard, loud, muxed, tone

SECONDS = 12


@pytest.fixture(scope="module", params=[0.0, float(SECONDS)], ids=["alone", "picture"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Noise, and a tone from 10 s to 11 s."""
    waveform = np.random.default_rng(0).normal(0, 0.03, SECONDS * SAMPLE_RATE).astype(np.float32)
    waveform[10 * SAMPLE_RATE : 11 * SAMPLE_RATE] = tone(1.0)
    path = tmp_path_factory.mktemp("flv") / "a.flv"
    return muxed(path, "flv", "aac", [Voice(waveform)], picture_s=request.param).read_bytes()


def test_a_whole_file_is_whole(whole: bytes) -> None:
    waveform, report = heard(whole)
    assert not report.damaged_s and not report.warnings and len(waveform) / SAMPLE_RATE == pytest.approx(12.1, abs=0.1)


@pytest.mark.parametrize("share", [0.06, 0.6])
def test_a_hole_was_taken_for_a_pause(whole: bytes, share: float) -> None:
    """0.06 s of sound too, which a clock with jitter would swallow."""
    start, length = len(whole) // 2 + 5, round(share * len(whole) / SECONDS)
    for middle in (b"", bytes(length)):
        data = whole[:start] + middle + whole[start + length :]
        waveform, report = heard(data)
        assert 0 < report.damaged_s < 1.5
        assert "not decodable" in report.warnings[-1]  # behind a second track, which what is left of a tag may name
        ((start_s, end_s),) = [each for each in loud(waveform) if each[1] - each[0] > 0.2]
        assert (start_s, end_s) == (pytest.approx(10.0, abs=0.1), pytest.approx(11.0, abs=0.15))
        with pytest.raises(DataError, match="corrupt"):
            decode(data)


@pytest.mark.medium
def test_a_pause_is_no_damage(tmp_path: Path) -> None:
    voice = Voice(tone(2.0), pause_at_s=1.0, pause_s=3.0)
    for picture_s in (0.0, 6.0):
        waveform, report = heard(muxed(tmp_path / "a.flv", "flv", "aac", [voice], picture_s).read_bytes())
        assert len(loud(waveform)) == 2 and not report.damaged_s and "by its clock" in report.warnings[0]


def told(data: bytes, name: bytes, value: float) -> bytes:
    at = data.index(name + b"\0") + len(name) + 1
    return data[:at] + struct.pack(">d", value) + data[at + 8 :]


def starts(data: bytes) -> list[int]:
    """Where the tags begin."""
    found = [13]
    while found[-1] + 15 < len(data):
        found.append(found[-1] + 15 + int.from_bytes(data[found[-1] + 1 : found[-1] + 4]))
    return found


def test_a_file_without_its_end_was_taken_for_whole(whole: bytes) -> None:
    tag = starts(whole)[len(starts(whole)) // 2]
    with pytest.raises(DataError, match=r"truncated: .* of 12\.\d+ s are there"):
        decode(whole[:tag], limits=LENIENT)
    with pytest.raises(DataError, match=r"truncated: .*the last FLV tag is cut"):
        decode(whole[: tag + 20], limits=LENIENT)


@pytest.mark.parametrize("size", [0, 1e9])
def test_sizes_that_a_stream_does_not_know_refuse_nothing(whole: bytes, size: float) -> None:
    """Nor do those of another file, from which this one was made, where the length is its own."""
    tag = starts(whole)[len(starts(whole)) // 2]
    decode(told(whole, b"filesize", size))
    decode(told(told(whole, b"filesize", 0), b"duration", 0)[:tag])


def test_what_ffmpeg_does_not_find_its_way_to_is_lost(whole: bytes) -> None:
    """A tag that seems to last to the end of the file."""
    tag = starts(whole)[len(starts(whole)) * 9 // 10]
    waveform, report = heard(whole[: tag + 1] + b"\xff\xff\xff" + whole[tag + 4 :])
    assert len(waveform) / SAMPLE_RATE == pytest.approx(12.0, abs=0.2) and report.damaged_s > 0.5
