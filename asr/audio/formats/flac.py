"""Position of a FLAC frame, from its header: FFmpeg does not read it; in Ogg it counts pages, which may be missing."""

from __future__ import annotations

SYNC = 0x3FFE  # 14 bits, then a reserved one (RFC 9639, section 9.1)


def position(frame: bytes, samples: int) -> int | None:
    """Return the number of a FLAC frame's first sample, by its header; None where it has none.

    ``samples`` are those of the frames before the last one: where all are of one size, the header counts frames.
    """
    if len(frame) < 11 or (frame[0] << 6 | frame[1] >> 2) != SYNC:
        return None
    number = _coded_number(frame[4:11])
    return number if number is None or frame[1] & 1 else number * samples


def _coded_number(data: bytes) -> int | None:
    """Return a number that is written as UTF-8 writes a character, up to 36 bits."""
    first = data[0]
    if first < 0x80:
        return first
    more = next((bit for bit in range(1, 7) if not first & (0x40 >> (bit - 1))), 7) - 1
    rest = data[1 : 1 + more]
    if not 1 <= more <= 6 or len(rest) < more or any(byte & 0xC0 != 0x80 for byte in rest):
        return None
    number = first & (0x3F >> more)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number
