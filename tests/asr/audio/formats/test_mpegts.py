from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode
from asr.errors import DataError
from tests.asr.sounds import Voice, heard, loud, muxed, tone

PACKET = 188


def recording(path: Path, picture_s: float = 0.0, seconds: float = 12.0, start_s: float = 0.0) -> bytes:
    """Noise, and a tone from 9 s to 10 s."""
    waveform = np.random.default_rng(0).normal(0, 0.03, round(seconds * SAMPLE_RATE)).astype(np.float32)
    waveform[9 * SAMPLE_RATE : 10 * SAMPLE_RATE] = tone(1.0)
    return muxed(path, "mpegts", "aac", [Voice(waveform, start_s)], picture_s).read_bytes()


def tone_at(waveform: np.ndarray) -> list[float]:
    return [start_s for start_s, end_s in loud(waveform) if end_s - start_s > 0.3]


@pytest.mark.medium
@pytest.mark.parametrize("picture_s", [0.0, 12.0])
@pytest.mark.parametrize("kind", ["zeros", "noise", "missing"])
def test_packets_that_were_lost_beside_a_picture_were_a_pause(tmp_path: Path, picture_s: float, kind: str) -> None:
    whole = recording(tmp_path / "a.ts", picture_s)
    at, count = len(whole) // 3 // PACKET * PACKET, len(whole) // 12 // PACKET * PACKET
    junk = {"zeros": bytes(count), "noise": np.random.default_rng(1).bytes(count), "missing": b""}[kind]
    damaged = whole[:at] + junk + whole[at + count :]
    waveform, report = heard(damaged)
    assert 0.4 < report.damaged_s < 2.0 and tone_at(waveform) == [pytest.approx(9.0, abs=0.15)]
    with pytest.raises(DataError, match="corrupt"):
        decode(damaged)


@pytest.mark.medium
@pytest.mark.parametrize("picture_s", [0.0, 14.0])
def test_a_pause_is_one(tmp_path: Path, picture_s: float) -> None:
    voice = Voice(tone(6.0), pause_at_s=3.0, pause_s=5.0)
    waveform, report = heard(muxed(tmp_path / "a.ts", "mpegts", "aac", [voice], picture_s))
    assert not report.damaged_s and "no sound in the file" in report.warnings[0]
    assert len(waveform) / SAMPLE_RATE == pytest.approx(11.0, abs=0.2)


@pytest.mark.medium
@pytest.mark.parametrize("later_s", [1800.0, 40_000.0])
def test_two_recordings_that_were_joined_lay_hours_apart(tmp_path: Path, later_s: float) -> None:
    first = recording(tmp_path / "a.ts")
    path = tmp_path / "joined.ts"
    path.write_bytes(first + recording(tmp_path / "b.ts", start_s=later_s) + first)
    waveform = decode(path)
    assert tone_at(waveform) == [pytest.approx(9.0 + 12 * part, abs=0.1 + 0.1 * part) for part in range(3)]
    for start_s in (8.5, 20.5, 32.5):
        found = tone_at(decode(path, start_s=start_s, end_s=start_s + 3.0))
        assert found == [pytest.approx(tone_at(waveform)[round(start_s) // 12] - start_s, abs=0.03)]
