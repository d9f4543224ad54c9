from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode
from asr.audio.formats.avi import Layout
from asr.errors import DataError
from tests.asr.sounds import LENIENT, Voice, encoded, heard, loud, muxed, tone

SECONDS = 12


def clear(waveform: np.ndarray) -> list[float]:
    """Where tones begin and end; where a decoder finds its feet again it crackles."""
    return [time_s for start_s, end_s in loud(waveform) if end_s - start_s > 0.2 for time_s in (start_s, end_s)]


def beeps() -> np.ndarray:
    """Half a second of a tone in every second of noise."""
    waveform = np.random.default_rng(0).normal(0, 0.03, SECONDS * SAMPLE_RATE).astype(np.float32)
    for second in range(SECONDS):
        waveform[second * SAMPLE_RATE :][: SAMPLE_RATE // 2] = tone(0.5)
    return waveform


@pytest.fixture(scope="module", params=["libmp3lame", "pcm_s16le", "aac"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[0.0, float(SECONDS)], ids=["alone", "picture"])
def whole(codec: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("avi") / "a.avi"
    return muxed(path, "avi", codec, [Voice(beeps())], picture_s=request.param).read_bytes()


def broken(whole: bytes, way: str) -> bytes:
    """Half a second and more in the middle, at some place within a chunk."""
    start = whole.index(b"movi") + round(0.5 * (whole.rindex(b"idx1") - whole.index(b"movi"))) + 7
    length = len(whole) // SECONDS
    middle = {"zeros": bytes(length), "noise": np.random.default_rng(1).bytes(length), "missing": b""}[way]
    return whole[:start] + middle + whole[start + length :]


@pytest.mark.medium
def test_a_whole_file_is_whole(whole: bytes) -> None:
    waveform, report = heard(whole)
    assert not report.damaged_s and not report.warnings
    assert len(waveform) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.15)
    decode(whole)


@pytest.mark.medium
@pytest.mark.parametrize("way", ["zeros", "noise", "missing"])
def test_words_behind_damage_came_early_and_nobody_was_told(whole: bytes, way: str) -> None:
    waveform, report = heard(broken(whole, way))
    assert len(waveform) == pytest.approx(len(heard(whole)[0]), abs=0.05 * SAMPLE_RATE)
    assert 0.4 < report.damaged_s < 2.5 and "not decodable" in report.warnings[0]
    late_s = loud(heard(whole)[0])[0][0]
    behind = [start_s for start_s, end_s in loud(waveform) if start_s > 8.0 and end_s - start_s > 0.3]
    assert len(behind) >= 3
    for start_s in behind:
        assert (start_s - late_s + 0.2) % 1.0 == pytest.approx(0.2, abs=0.05)
    with pytest.raises(DataError, match="corrupt"):
        decode(broken(whole, way))


@pytest.mark.medium
@pytest.mark.parametrize("way", ["zeros", "missing"])
def test_times_behind_damage_given_back_as_offset_find_the_same_sound(whole: bytes, way: str) -> None:
    data = broken(whole, way)
    there = heard(data)[0]
    for start_s in (2.2, 5.9, 6.3, 9.1):
        cut = decode(data, start_s=start_s, end_s=start_s + 1.0, limits=AudioLimits(max_damaged_share=1.0))
        expected = there[round(start_s * SAMPLE_RATE) :][: len(cut)]
        assert len(cut) == SAMPLE_RATE
        assert clear(cut) == pytest.approx(clear(expected), abs=0.06)


def test_a_file_without_its_end_was_taken_for_whole(whole: bytes) -> None:
    for share in (0.6, 0.9):
        with pytest.raises(DataError, match=r"truncated: .* bytes of .* are there"):
            decode(whole[: round(share * whole.rindex(b"idx1"))], limits=LENIENT)
    decode(whole[: whole.rindex(b"idx1")])  # the packets are there, only their index is not


@pytest.mark.medium
def test_sizes_of_a_stream_refuse_nothing(whole: bytes) -> None:
    """A writer that cannot go back leaves the sizes open; without an index too."""
    for size in (0, 0xFFFFFFFF):
        at = whole.index(b"movi") - 4
        for end in (len(whole), whole.rindex(b"idx1")):
            stream = whole[:4] + struct.pack("<I", size) + whole[8:at] + struct.pack("<I", size) + whole[at + 4 : end]
            waveform, report = heard(stream)
            assert len(waveform) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.15) and not report.damaged_s


def test_without_an_index_bytes_tell_what_is_lost(whole: bytes) -> None:
    data = broken(whole, "zeros")
    waveform, report = heard(data[: data.rindex(b"idx1")])
    assert len(waveform) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.6) and report.damaged_s > 0.3


@pytest.mark.medium
def test_an_index_that_is_damaged_itself_is_not_believed(codec: str, tmp_path: Path) -> None:
    whole = muxed(tmp_path / "a.avi", "avi", codec, [Voice(beeps())]).read_bytes()
    at = whole.rindex(b"idx1") + 8 + 16 * 20 + 12
    for size in (0x7FFFFFFF, 0x00FFFFFF):
        waveform, report = heard(whole[:at] + struct.pack("<I", size) + whole[at + 4 :])
        assert len(waveform) == len(heard(whole)[0]) and not report.damaged_s


@pytest.mark.medium
def test_what_is_lost_at_the_end_is_silence(codec: str, tmp_path: Path) -> None:
    whole = muxed(tmp_path / "a.avi", "avi", codec, [Voice(beeps())]).read_bytes()
    index = whole.rindex(b"idx1")
    length = len(whole) // SECONDS
    waveform, report = heard(whole[: index - length] + bytes(length) + whole[index:])
    assert len(waveform) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.15) and report.damaged_s > 0.5


def test_a_pause_is_no_damage_and_takes_its_time(tmp_path: Path) -> None:
    """FFmpeg's writer puts empty chunks there, which its reader does not count."""
    voice = Voice(tone(2.0), pause_at_s=1.0, pause_s=3.0)
    waveform, report = heard(muxed(tmp_path / "a.avi", "avi", "libmp3lame", [voice]).read_bytes())
    (_, gap_s), (again_s, _) = loud(waveform)
    assert (gap_s, again_s) == (pytest.approx(1.1, abs=0.1), pytest.approx(4.1, abs=0.1)) and not report.damaged_s


def unaligned(folder: Path) -> bytes:
    """MP3 of a constant bit rate in chunks of any bytes, as old capture programs write it: few packets have a place."""
    mp3 = encoded(folder / "a.mp3", beeps(), "libmp3lame", "mp3", rate=SAMPLE_RATE, write_xing="0", id3v2_version="0")
    sound = mp3.read_bytes()
    rate = len(sound) // SECONDS

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    about = struct.pack("<4s10I", b"auds", 0, 0, 0, 0, 1, rate, 0, len(sound), 777, 0) + struct.pack("<I", 1) + bytes(8)
    kind = struct.pack("<HHIIHHH", 0x55, 1, SAMPLE_RATE, rate, 1, 0, 12) + struct.pack("<HIHHH", 1, 2, 100, 1, 0)
    packets, index = b"movi", b""
    for start in range(0, len(sound), 777):
        data = sound[start : start + 777]
        index += struct.pack("<4sIII", b"00wb", 16, len(packets), len(data))
        packets += chunk(b"00wb", data)
    track = chunk(b"LIST", b"strl" + chunk(b"strh", about) + chunk(b"strf", kind))
    head = chunk(b"LIST", b"hdrl" + chunk(b"avih", struct.pack("<14I", 0, rate, 0, 16, 0, 0, 1, *[0] * 7)) + track)
    return chunk(b"RIFF", b"AVI " + head + chunk(b"LIST", packets) + chunk(b"idx1", index))


@pytest.mark.medium
@pytest.mark.parametrize("way", ["zeros", "missing"])
def test_chunks_that_are_no_frames_keep_their_times_too(tmp_path: Path, way: str) -> None:
    whole = unaligned(tmp_path)
    expected, report = heard(whole)
    assert len(expected) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.2) and not report.damaged_s
    decode(whole)
    waveform, report = heard(broken(whole, way))
    assert len(waveform) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.3) and report.damaged_s > 0.4
    late_s = clear(expected)[0]
    behind = [start_s for start_s in clear(waveform)[::2] if start_s > 8.0]
    assert len(behind) >= 3
    for start_s in behind:  # FFmpeg's times of such packets jitter by 0.1 s
        assert (start_s - late_s + 0.2) % 1.0 == pytest.approx(0.2, abs=0.15)


def test_what_has_no_packets_has_no_layout() -> None:
    assert Layout(io.BytesIO(b"RIFF\x10\0\0\0AVI " + bytes(4))).movi is None
