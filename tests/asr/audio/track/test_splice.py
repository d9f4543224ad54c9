from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.decode import SAMPLE_RATE, decode
from asr.audio.track.splice import Spliced, tags_within
from tests.asr.sounds import encoded, loud, tone

KINDS = {"mp3": ("libmp3lame", "mp3"), "aac": ("aac", "adts"), "ac3": ("ac3", "ac3")}
RANDOM = np.random.default_rng(0)


def ape(size: int) -> bytes:
    """An APEv2 tag with a cover of so many random bytes."""
    item = struct.pack("<II", size, 2) + b"Cover Art (Front)\0" + RANDOM.bytes(size)
    ends = [struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(item) + 32, 1, flags) for flags in (0xA0000000, 0x80000000)]
    return ends[0] + item + ends[1]


def id3(size: int) -> bytes:
    return b"ID3\x04\x00\x00" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + RANDOM.bytes(size)


TAGS = {"ape": ape(30_000), "id3": id3(20_000), "id3v1": b"TAG" + bytes(125), "both": ape(300) + id3(5_000)}


def sound(folder: Path, kind: str) -> bytes:
    """Four seconds of noise, a tone from 2 s to 3 s."""
    waveform = RANDOM.normal(0, 0.03, 4 * 48_000).astype(np.float32)
    waveform[2 * 48_000 : 3 * 48_000] = tone(1.0, 48_000)
    return encoded(folder / kind, waveform, *KINDS[kind]).read_bytes()


@pytest.mark.medium
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_cover_between_joined_files_cost_the_sound_behind_it(tmp_path: Path, kind: str, tag: str) -> None:
    part = sound(tmp_path, kind)
    joined = part + TAGS[tag] + part + TAGS[tag] + part
    waveform = decode(joined)  # strict: nothing is damaged
    seconds = len(decode(part)) / SAMPLE_RATE
    tones = [start_s for start_s, end_s in loud(waveform) if end_s - start_s > 0.5]
    assert tones == [pytest.approx(2.0 + seconds * number, abs=0.1 + 0.08 * number) for number in range(3)]
    for start_s in tones:
        ((found_s, _),) = [each for each in loud(decode(joined, start_s=start_s - 0.5, end_s=start_s + 1.5))][:1]
        assert found_s == pytest.approx(0.5, abs=0.03)


def test_only_whole_tags_are_taken_out(tmp_path: Path) -> None:
    part = sound(tmp_path, "mp3")
    front = id3(100)
    assert tags_within(io.BytesIO(front + part)) == []
    end = len(front + part)
    for tag in TAGS.values():
        spans = tags_within(io.BytesIO(front + part + tag))
        assert spans[0][0] == end and spans[-1][1] == end + len(tag)
    for false in (b"TAG", b"ID3\x04\x00\x00\x00\x00\x02\x00", b"APETAGEX" + bytes(24)):
        assert tags_within(io.BytesIO(part[:9_000] + false + part[9_001:])) == []  # letters within sound
    far = bytes(3 << 20) + b"\xff\xfb" + bytes(100)
    at = (1 << 20) - 2  # over the end of a block
    marked = part[:at] + bytes(at - len(part)) + TAGS["id3"] + part[:4] + far
    assert tags_within(io.BytesIO(marked)) == [(at, at + len(TAGS["id3"]))]


@given(
    data=st.binary(min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    steps=st.lists(st.tuples(st.integers(-5, 70), st.integers(-1, 30)), max_size=8),
)
def test_a_spliced_file_reads_as_its_bytes_do(data: bytes, cuts: list[int], steps: list[tuple[int, int]]) -> None:
    edges = sorted({cut for cut in cuts if cut <= len(data)})
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    left = bytes(byte for at, byte in enumerate(data) if not any(start <= at < end for start, end in spans))
    one, other = Spliced(io.BytesIO(data), spans), io.BytesIO(left)
    assert one.seek(0, os.SEEK_END) == other.seek(0, os.SEEK_END) == len(left)
    for place, count in steps:
        if place >= 0:
            assert one.seek(place) == other.seek(place)
        assert one.read(count) == other.read(count) and one.tell() == other.tell()
