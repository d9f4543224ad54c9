from __future__ import annotations

import io
import math
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode, decode_to
from asr.audio.track.packets import Packets
from asr.audio.track.raw_frames import intact_until
from tests.asr.sounds import CODECS, encoded, loud, tone

pytestmark = pytest.mark.medium

KINDS = {"mp3": CODECS["mp3"], "aac": ("aac", "adts"), "ac3": ("ac3", "ac3")}
RANDOM = np.random.default_rng(0)


def cover(size: int) -> bytes:
    """An ID3v2.3 tag with a picture of so many random bytes, in which there is much that looks like frames."""
    picture = RANDOM.bytes(size)
    body = b"APIC" + size.to_bytes(4) + b"\0\0" + picture
    length = len(body)
    return b"ID3\x03\x00\x00" + bytes((length >> shift) & 0x7F for shift in (21, 14, 7, 0)) + body


def sound(folder: Path, kind: str, seconds: float, tone_at: float) -> bytes:
    """Noise, and a second of a tone."""
    waveform = RANDOM.normal(0, 0.03, round(seconds * 48_000)).astype(np.float32)
    first = round(tone_at * 48_000)
    waveform[first : first + 48_000] = tone(1.0, 48_000)
    return encoded(folder / f"{kind}{seconds}", waveform, *KINDS[kind]).read_bytes()


@pytest.mark.parametrize("size", [100, 20_000, 200_000])
def test_the_cover_of_a_joined_mp3_was_seconds_of_sound(tmp_path: Path, size: int) -> None:
    part = sound(tmp_path, "mp3", 4.0, 2.0)
    for joined in (cover(size) + part + cover(size) + part, part + cover(size) + cover(size) + part):
        waveform = decode(joined)  # strict: nothing is damaged
        assert len(waveform) / SAMPLE_RATE == pytest.approx(8.0, abs=0.2)
        assert [start_s for start_s, _ in loud(waveform)] == [pytest.approx(2.0, abs=0.1), pytest.approx(6.0, abs=0.15)]


def test_a_tag_in_the_middle_of_a_frame_is_no_sound(tmp_path: Path) -> None:
    whole = sound(tmp_path, "mp3", 6.0, 4.0)
    for at in (len(whole) // 2, len(whole) // 2 + 100):
        waveform = decode(whole[:at] + cover(50_000) + whole[at:], limits=AudioLimits(max_damaged_share=0.05))
        ((start_s, _),) = [each for each in loud(waveform) if each[1] - each[0] > 0.3]
        assert start_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_words_behind_damage_keep_their_times(tmp_path: Path, kind: str) -> None:
    """FFmpeg's ADTS reader throws away what it cannot read, and tells neither time nor place of it."""
    whole = sound(tmp_path, kind, 12.0, 9.0)
    for at in (0.2, 0.35, 0.5):
        for junk in (bytes(len(whole) // 24), RANDOM.bytes(len(whole) // 24)):  # half a second
            start = round(at * len(whole))
            blocks: list[np.ndarray] = []
            data = whole[:start] + junk + whole[start + len(junk) :]
            report = decode_to(blocks.append, data, limits=AudioLimits(max_damaged_share=0.5))
            ((start_s, _),) = [each for each in loud(np.concatenate(blocks)) if each[1] - each[0] > 0.5]
            assert start_s == pytest.approx(9.0, abs=0.15)
            assert 0.3 < report.damaged_s < 1.5  # a decoder may lose more than the bytes that are damaged


@pytest.mark.parametrize("kind", KINDS)
def test_until_where_a_stream_is_intact(tmp_path: Path, kind: str) -> None:
    def until_s(data: bytes) -> float:
        file = io.BytesIO(data)
        with av.open(file) as media:
            stream = media.streams.audio[0]
            tick = intact_until((found.packet for found in Packets(media, stream, file)), file, media.format.name)
            return tick * float(stream.time_base)

    whole = sound(tmp_path, kind, 12.0, 9.0)
    at = len(whole) // 2
    assert until_s(whole) == math.inf
    for damaged in (whole[:at] + bytes(2_000) + whole[at:], whole + cover(5_000) + whole):
        found = until_s(damaged)
        assert found == 0 or found == pytest.approx(6.0, abs=0.3) or found == pytest.approx(12.0, abs=0.3)
