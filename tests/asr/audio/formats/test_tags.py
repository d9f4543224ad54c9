from __future__ import annotations

import struct

import pytest

from asr.audio.formats.tags import tag_bytes

APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 60_000, 1, 1 << 31)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(200), 10 + 128),
        (b"ID3\x04\x00\x10\x00\x00\x00\x05" + bytes(30), 10 + 5 + 10),  # with a footer
        (b"ID3\x03\x00\x00\x00\x03TwAPIC", 60_033),
        (APE, 60_032),
        (b"TAG" + bytes(125), 128),
        (b"LYRICSBEGIN" + b"la " * 9, 38),
        (b"ID3\x04\x00\x00\xff\x00\x01\x00", 0),  # no size has its highest bit
        (b"ID3\x09\x00\x00\x00\x00\x01\x00", 0),
        (b"ID3", 0),
        (b"\xff\xfb\x90\x64", 0),
        (b"", 0),
    ],
)
def test_how_long_a_tag_is(data: bytes, size: int) -> None:
    assert tag_bytes(data) == size
