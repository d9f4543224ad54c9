"""ASF (WMA, WMV): finds out if the last packets are missing (Advanced Systems Format 1.20.03, sections 3 and 5)."""

from __future__ import annotations

import struct
import uuid
from typing import TYPE_CHECKING, BinaryIO

from asr.audio.integrity import PLACEHOLDER_BYTES, TOLERANCE_S
from asr.audio.track.peek import read_at, size_of
from asr.audio.track.spacing import Spacing

if TYPE_CHECKING:
    import av

HEAD_BYTES = 24  # of an object: its name and its size
DATA_BYTES = HEAD_BYTES + 26  # before the first packet
HEADER, PROPERTIES, DATA = (
    uuid.UUID(name).bytes_le
    for name in (
        "75b22630-668e-11cf-a6d9-00aa0062ce6c",
        "8cabdca1-a947-11cf-8ee4-00c00c205365",
        "75b22636-668e-11cf-a6d9-00aa0062ce6c",
    )
)
DURATION_AT, PREROLL_AT, FLAGS_AT, PROPERTIES_BYTES = 64, 80, 88, 104
BROADCAST = 1
MAX_HEADER_BYTES = 1 << 20
MAX_PACKETS = 10_000  # between two of a track, of a long pause
PACKET_START = b"\x82\x00\x00"  # that it has two bytes for the correction of errors, which are none


class AsfTimes:
    """Tells a pause in an ASF file's audio track from packets that are missing. Their times are right as they are."""

    seekable = True

    def __init__(self, stream: av.AudioStream, file: BinaryIO) -> None:
        self._file, self._spacing = file, Spacing(float(stream.time_base))
        self._packets_end, self._duration_s, self._packet_bytes = _properties(file)

    def place(self, packet: av.Packet) -> float:
        """Return how many seconds of sound before a packet were lost, and take a time from it that cannot be."""
        if packet.pos is None or packet.pts is None:
            return 0.0
        if self._spacing.goes_back(packet.pts):  # read out of damage: no packet does
            packet.pts = packet.dts = None
            return 0.0
        before, late_s = self._spacing.position, self._spacing.late_s(packet.pos, packet.pts)
        return late_s if late_s and self._broken(before, packet.pos) else 0.0

    def end(self) -> tuple[float, bool]:
        """Return nothing that should have come behind the last packet."""
        return 0.0, False

    def cut(self, decoded_s: float) -> str:
        """Say what is missing at the end, or return "": there are fewer bytes than the header says."""
        short = decoded_s < self._duration_s - TOLERANCE_S and self._packets_end > size_of(self._file)
        return f"{decoded_s:.2f} s of {self._duration_s:.2f} s are there" if short else ""

    def _broken(self, start: int, end: int) -> bool:
        """Return whether anything but packets, all of one size, lies between two packets or behind the later one.

        FFmpeg says of the first ones behind damage that they lie before it.
        """
        size = self._packet_bytes
        if not size or end - start > size * MAX_PACKETS:
            return False
        behind = min(end + size, (self._packets_end or size_of(self._file)) - size)
        starts = range(start, behind + 1, size)
        return (end - start) % size > 0 or any(
            read_at(self._file, at, len(PACKET_START)) != PACKET_START for at in starts
        )


def _properties(file: BinaryIO) -> tuple[int, float, int]:
    """Return where the packets end by the header, how long they last, and the bytes of each.

    Zeros for what is not known: of a broadcast, all but the last.
    """
    nothing = 0, 0.0, 0
    head = read_at(file, 0, HEAD_BYTES)
    header_bytes = int.from_bytes(head[16:], "little")
    if head[:16] != HEADER or header_bytes > MAX_HEADER_BYTES:
        return nothing
    header = read_at(file, 0, header_bytes + HEAD_BYTES)
    at, data = header.find(PROPERTIES), header[header_bytes:]
    about = header[at : at + PROPERTIES_BYTES]
    if at < 0 or len(about) < PROPERTIES_BYTES or data[:16] != DATA:
        return nothing
    ticks, preroll_ms = struct.unpack_from("<Q", about, DURATION_AT)[0], struct.unpack_from("<Q", about, PREROLL_AT)[0]
    flags, smallest, largest = struct.unpack_from("<III", about, FLAGS_AT)
    size, first = int.from_bytes(data[16:], "little"), read_at(file, header_bytes + DATA_BYTES, len(PACKET_START))
    packet_bytes = smallest if smallest == largest and first == PACKET_START else 0
    if flags & BROADCAST or size >= PLACEHOLDER_BYTES:
        return 0, 0.0, packet_bytes
    return header_bytes + size, ticks / 1e7 - preroll_ms / 1e3, packet_bytes
