"""Ogg: finds where a joined file goes on in another codec, at which FFmpeg throws everything away (RFC 3533)."""

from __future__ import annotations

from typing import BinaryIO

from asr.audio.track.peek import read_at, size_of

PAGE, FLAGS_AT, FIRST, SEGMENTS_AT = b"OggS\0", 5, 0x02, 26
CODEC_BYTES = 7  # of a stream's first packet: OpusHead, \x01vorbis, \x7fFLAC, Speex


def codec_changes(file: BinaryIO) -> list[int]:
    """Return where an Ogg of one stream goes on with one of another codec than before."""
    data = read_at(file, 0, size_of(file))
    changes: list[int] = []
    codec, after_first, at = b"", False, data.find(PAGE)
    while at >= 0:
        page = data[at : at + SEGMENTS_AT + 1 + 255 + CODEC_BYTES]
        first = len(page) > SEGMENTS_AT and bool(page[FLAGS_AT] & FIRST)
        if first and after_first:
            return []  # streams side by side
        if first:
            packet = SEGMENTS_AT + 1 + page[SEGMENTS_AT]
            found = page[packet : packet + CODEC_BYTES]
            changes += [at] if codec and found != codec else []
            codec = found
        after_first, at = first, data.find(PAGE, at + 1)
    return changes
