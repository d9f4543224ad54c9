"""Tags in front of, between and behind the frames of MP3 and its like: titles and covers, no sound."""

from __future__ import annotations

import struct

MARKS = (b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"TAG")  # what they begin with
ID3V1_BYTES = 128
FLAG_FOOTER = 0x10


def tag_bytes(data: bytes) -> int:
    """Return the size of the tag that ``data`` begins with, which may be more than ``data`` has; 0 where it is none.

    ID3v2 (https://id3.org/id3v2.4.0-structure, section 3.1), APEv2 (the size in its header is without the header),
    ID3v1, and Lyrics3, whose size only its end tells: all of ``data`` is taken for it.
    """
    if data[:3] == b"ID3" and len(data) >= 10 and data[3] < 5 and max(data[6:10]) < 0x80:
        size = sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + (10 if data[5] & FLAG_FOOTER else 0)
    if data[:8] == b"APETAGEX" and len(data) >= 32:
        return 32 + int(struct.unpack("<I", data[12:16])[0])
    if data[:3] == b"TAG":
        return ID3V1_BYTES
    return len(data) if data[:11] == b"LYRICSBEGIN" else 0
