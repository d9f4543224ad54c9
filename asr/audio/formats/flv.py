"""FLV: finds missing tags, also at the end of the file (Adobe Flash Video File Format 10.1, annex E)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from asr.audio.integrity import TOLERANCE_S
from asr.audio.track.peek import read_at, size_of
from asr.audio.track.spacing import Spacing

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

HEAD_BYTES, BEHIND_BYTES = 11, 4  # of a tag; its size stands behind it once more
MAX_TAGS = 10_000  # between two packets of a track, of a long pause
ABOUT_BYTES = 1 << 16  # in which the tag with the file's size is


class FlvTimes:
    """Tells a pause in an FLV's audio track from tags that are missing. Their times are right as they are."""

    seekable = True

    def __init__(self, media: InputContainer, stream: av.AudioStream, file: BinaryIO) -> None:
        self._file, self._spacing = file, Spacing(float(stream.time_base))
        self._duration_s = float(media.duration or 0) / 1e6

    def place(self, packet: av.Packet) -> float:
        """Return how many seconds of sound before a packet were lost."""
        if packet.pos is None or packet.pts is None:
            return 0.0
        before, late_s = self._spacing.position, self._spacing.late_s(packet.pos, packet.pts)
        return late_s if late_s and not _are_tags(self._file, before, packet.pos) else 0.0

    def end(self) -> tuple[float, bool]:
        """Return until when more should have come, by the last tag, where FFmpeg did not find its way to it."""
        size = size_of(self._file)
        last_s = _last_s(self._file, size)
        lost = (
            last_s is not None
            and self._spacing.position >= 0
            and not _are_tags(self._file, self._spacing.position, size)
        )
        return (last_s or 0.0) if lost else 0.0, lost

    def cut(self, decoded_s: float) -> str:
        """Say what is missing at the end, or return "": there are fewer bytes than the file says, or a tag is cut."""
        size = size_of(self._file)
        last_s = _last_s(self._file, size)
        if last_s is None and self._spacing.position >= 0 and _tag_cut(self._file, self._spacing.position, size):
            return f"the last FLV tag is cut after {decoded_s:.2f} s"
        short = _told_bytes(self._file) > size and max(last_s or 0.0, decoded_s) < self._duration_s - TOLERANCE_S
        return f"{decoded_s:.2f} s of {self._duration_s:.2f} s are there" if short else ""


def _tag_bytes(file: BinaryIO, at: int) -> int:
    """Return how many bytes the tag at a position takes with what is behind it, 0 where there is none."""
    head = read_at(file, at, HEAD_BYTES)
    if len(head) < HEAD_BYTES or head[0] not in (8, 9, 18) or head[8:] != bytes(3):
        return 0
    return HEAD_BYTES + int.from_bytes(head[1:4]) + BEHIND_BYTES


def _are_tags(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether there is nothing but tags between two positions."""
    for _ in range(MAX_TAGS):
        size = _tag_bytes(file, start)
        start += size
        if start >= end or not size:
            return start == end
    return True  # that is a long pause


def _tag_cut(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether the last of the tags, read from one on, is longer than the file."""
    for _ in range(MAX_TAGS):
        size = _tag_bytes(file, start)
        start += size
        if start - BEHIND_BYTES > end or not size:
            return bool(size) or 0 < end - start < HEAD_BYTES
    return False


def _last_s(file: BinaryIO, size: int) -> float | None:
    """Return the time stamp of the file's last tag, by the size that stands behind it; None where it is not whole."""
    start = size - BEHIND_BYTES - int.from_bytes(read_at(file, size - BEHIND_BYTES, BEHIND_BYTES))
    if start <= 0 or start + _tag_bytes(file, start) != size:
        return None
    stamp = read_at(file, start + 4, 4)
    return int.from_bytes(stamp[3:] + stamp[:3]) / 1000


def _told_bytes(file: BinaryIO) -> float:
    """Return the file's size as its ``onMetaData`` has it, 0 where it has none: a stream's is not known."""
    head, name = read_at(file, 0, ABOUT_BYTES), b"\x00\x08filesize\x00"
    at = head.find(name)
    value = head[at + len(name) : at + len(name) + 8]
    return struct.unpack(">d", value)[0] if at >= 0 and len(value) == 8 else 0.0
