"""Streams that are nothing but frames (MP3, ADTS): the tags among them, and the bytes that FFmpeg threw away unsaid."""

from __future__ import annotations

from typing import Any, BinaryIO

from asr.tags import MARKS, tag_bytes
from asr.truncation import read_at

SEARCHED_BYTES = 1 << 20  # after damage, for the next frame; of a minute of sound, and more of it is no small damage
COMPARED_BYTES = 32


class RawFrames:
    """Looks at the packets of such a stream in their order, beside the file that they come from."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._tag_end = 0
        self._before: Any = b""  # the last packet that was sound, and where it began: a tag may begin in it
        self._before_at = 0
        self._behind = 0  # how much further on in the file a packet lies than FFmpeg says
        self._lost = False

    def skipped(self, packet: Any) -> int:
        """Return how many bytes before a packet are in none. FFmpeg's ADTS reader does not count them in positions."""
        if not self._lost:
            return 0
        self._lost = False
        head = bytes(memoryview(packet)[:COMPARED_BYTES])
        told = packet.pos + self._behind
        found = read_at(self._file, told, SEARCHED_BYTES).find(head)
        self._behind += max(found, 0)
        return max(found, 0)

    def is_tag(self, packet: Any) -> bool:
        """Whether a packet begins within a tag: a cover may look like frames."""
        return bool(packet.pos + self._behind < self._tag_end)

    def keep(self, packet: Any) -> None:
        """Take note of a packet that was decoded."""
        self._before, self._before_at = packet, packet.pos + self._behind

    def lose(self, packet: Any) -> bool:
        """Take note of a packet that was not, and return whether that is because it is a tag."""
        before, start = bytes(self._before), self._before_at
        if start + len(before) != packet.pos + self._behind:
            before, start = b"", packet.pos + self._behind
        data = before + bytes(packet)
        for mark in MARKS:
            found = data.find(mark)
            end = start + found
            while found >= 0 and (size := tag_bytes(read_at(self._file, end, COMPARED_BYTES))):
                end += size  # one may follow another, as where two files were joined
                self._tag_end = max(self._tag_end, end)
        self._lost = not self.is_tag(packet)
        return not self._lost
