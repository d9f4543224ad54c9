from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode
from asr.audio.formats.asf import FLAGS_AT, PROPERTIES, AsfTimes
from asr.errors import DataError
from tests.asr.sounds import LENIENT, Voice, heard, loud, muxed, tone

SECONDS = 12


@pytest.fixture(scope="module", params=[0.0, float(SECONDS)], ids=["alone", "picture"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Noise, and a tone from 10 s to 11 s."""
    waveform = np.random.default_rng(0).normal(0, 0.03, SECONDS * SAMPLE_RATE).astype(np.float32)
    waveform[10 * SAMPLE_RATE : 11 * SAMPLE_RATE] = tone(1.0)
    path = tmp_path_factory.mktemp("asf") / "a.wma"
    return muxed(path, "asf", "wmav2", [Voice(waveform)], picture_s=request.param).read_bytes()


def test_a_whole_file_is_whole(whole: bytes) -> None:
    waveform, report = heard(whole)
    assert not report.damaged_s and not report.warnings and len(waveform) / SAMPLE_RATE == pytest.approx(12.1, abs=0.2)


def test_a_file_without_its_end_was_taken_for_whole(whole: bytes) -> None:
    for share in (0.5, 0.8):
        with pytest.raises(DataError, match=r"truncated: .* s of 12\.\d+ s are there"):
            decode(whole[: round(share * len(whole))], limits=LENIENT)


def test_a_broadcast_does_not_know_its_end(whole: bytes) -> None:
    flags = whole.index(PROPERTIES) + FLAGS_AT
    live = whole[:flags] + b"\x01" + whole[flags + 1 :]
    assert not heard(live)[1].damaged_s
    waveform, report = heard(live[: 50 + 3200 * (len(live) // 6400)])
    assert 3.0 < len(waveform) / SAMPLE_RATE < 9.0 and report.damaged_s < 0.1


@pytest.mark.parametrize("missing", [False, True])
def test_a_hole_was_taken_for_a_pause(whole: bytes, missing: bool) -> None:
    start, length = len(whole) // 2, len(whole) // SECONDS
    data = whole[:start] + (b"" if missing else bytes(length)) + whole[start + length :]
    waveform, report = heard(data)
    assert 0.3 < report.damaged_s < 2.5 and "not decodable" in report.warnings[0]
    ((start_s, end_s),) = [each for each in loud(waveform) if each[1] - each[0] > 0.2]
    assert (start_s, end_s) == (pytest.approx(10.1, abs=0.15), pytest.approx(11.1, abs=0.15))
    with pytest.raises(DataError, match="corrupt"):
        decode(data)


def test_a_pause_is_no_damage(tmp_path: Path) -> None:
    voice = Voice(tone(2.0), pause_at_s=1.0, pause_s=3.0)
    for picture_s in (0.0, 6.0):
        waveform, report = heard(muxed(tmp_path / "a.wma", "asf", "wmav2", [voice], picture_s).read_bytes())
        assert len(loud(waveform)) == 2 and not report.damaged_s and "by its clock" in report.warnings[0]


def test_a_time_that_is_read_out_of_damage_is_not_believed(tmp_path: Path) -> None:
    """It had all that follows begin anew, ten seconds late."""
    path = muxed(tmp_path / "a.wma", "asf", "wmav2", [Voice(tone(2.0))])
    with path.open("rb") as file, av.open(path) as media:
        stream = media.streams.audio[0]
        times, stamps = AsfTimes(stream, file), []
        for number, packet in enumerate(each for each in media.demux(stream) if each.size):
            packet.pts = -3_100 if number == 5 else packet.pts
            assert times.place(packet) == 0.0
            stamps.append(packet.pts)
    assert [number for number, stamp in enumerate(stamps) if stamp is None] == [5]
