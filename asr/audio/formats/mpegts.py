"""MPEG transport stream: finds missing packets of a track, and joints of two recordings (ISO 13818-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from asr.audio.track.peek import read_at
from asr.audio.track.presentation import TOLERANCE_S

if TYPE_CHECKING:
    import av

SYNC = 0x47
SIZES = (188, 192, 204)  # plain, of a Blu-ray with its time in front, with error correction behind
# Who cuts and joins transport streams keeps each part's clock; FFmpeg's own command takes as much for a new clock.
JOINED_S = 10.0
HAS_PAYLOAD, DAMAGED, NOTHING = 0x10, 0x80, 0x1FFF  # a bit each, and the number of packets that fill up
BEFORE = 2000  # packets; the tables come every tenth of a second
LOOKED_BYTES = 64 << 20  # between two packets of a track; a pause with a picture


class TsTimes:
    """Tells a pause in a transport stream from packets that are missing: all packets of a track are numbered."""

    seekable = True

    def __init__(self, stream: av.AudioStream, file: BinaryIO) -> None:
        self._file, self._pid, self._tick_s = file, int(stream.id), float(stream.time_base)
        self._position, self._due = -1, 0  # of the last packet that has a place
        self._moved = 0  # ticks that stamps are ahead since a joint

    def place(self, packet: av.Packet) -> float:
        """Return how many seconds of sound before a packet were lost. Behind a joint, give it a time without a gap."""
        if packet.pts is None:
            return 0.0
        ahead_s = (packet.pts - self._moved - self._due) * self._tick_s
        placed = packet.pos is not None and packet.pos >= 0
        lost_s = 0.0
        if ahead_s > TOLERANCE_S and self._position >= 0 and placed:
            far = ahead_s > JOINED_S
            missing, junk = self._missing(self._position, packet.pos, any_track=far)
            if missing and not junk and far:
                self._moved += round(ahead_s / self._tick_s)
            elif missing:
                lost_s = ahead_s
        packet.pts -= self._moved
        packet.dts = packet.pts
        self._due = packet.pts + (packet.duration or 0)
        self._position = packet.pos if placed else self._position
        return lost_s

    def end(self) -> tuple[float, bool]:
        """Return nothing that should have come behind the last packet."""
        return 0.0, False

    def cut(self, decoded_s: float) -> str:
        """Return "": nothing tells where a transport stream ends."""
        return ""

    def _missing(self, start: int, end: int, any_track: bool) -> tuple[bool, bool]:
        """Return whether a packet of the track is missing between two places, and whether junk is in its place.

        ``any_track``: or one of another track, the tables included. One track's numbers may go on by chance.
        """
        data = read_at(self._file, start, min(end - start, LOOKED_BYTES) + SIZES[-1])
        size = next((size for size in SIZES if len(data) > size and data[0] == data[size] == SYNC), 0)
        if any_track and size:
            behind = min(start // size, BEFORE) * size
            data = read_at(self._file, start - behind, behind) + data
        packets = [data[at : at + size] for at in range(0, len(data) - SIZES[0], size)] if size else [b"\0\0"]
        if any(packet[0] != SYNC or packet[1] & DAMAGED for packet in packets):
            return True, True
        last: dict[int, bytes] = {}
        for packet in packets:
            pid = (packet[1] & 0x1F) << 8 | packet[2]
            if packet[3] & HAS_PAYLOAD and (pid == self._pid or (any_track and pid != NOTHING)):
                before = last.get(pid)
                if before is not None and (packet[3] - before[3]) & 0x0F != 1 and packet != before:
                    return True, False
                last[pid] = packet
        return False, False
