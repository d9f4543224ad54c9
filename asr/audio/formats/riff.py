"""RIFF, of which WAV and AVI are made: chunks, one behind the other and one within the other."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from asr.audio.track.peek import read_at

HEAD_BYTES = 8  # of a chunk: four letters and a size
MAX_CHUNKS = 1000  # of 8 bytes each, 100 MB would otherwise be 12 million steps


class Chunk(NamedTuple):
    """A chunk of a RIFF file: its name (of a list: what it lists), where its content begins, and how long that is."""

    name: bytes
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def chunks(file: BinaryIO, start: int, end: int) -> Iterator[Chunk]:
    """Yield the chunks that lie one behind the other from ``start`` to ``end``, as far as they make sense."""
    for _ in range(MAX_CHUNKS):
        head = read_at(file, start, HEAD_BYTES + 4)
        if start >= end or len(head) < HEAD_BYTES or not _is_name(head[:4]):
            return
        name, size = struct.unpack("<4sI", head[:HEAD_BYTES])
        content = start + HEAD_BYTES
        yield Chunk(head[8:], content + 4, size - 4) if name in (b"LIST", b"RIFF") else Chunk(name, content, size)
        start = content + size + size % 2


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)
