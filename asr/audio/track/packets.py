"""The packets of one track of an opened file, as FFmpeg finds them, and the bytes that it passed over on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import av
from av.stream import Disposition

from asr.audio.formats.ogg import codec_changes

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_FAILURES = 1000  # in a row, without a packet between; of 64 KB each in Ogg

# Every packet of every track is preceded by a few bytes of its own: what is between two that is more was passed over.
# In an MP4 packets lie as they please, and the packets of a transport stream among each other.
CONTIGUOUS = frozenset({"matroska"})


@dataclass(slots=True)
class PacketAt:
    """A packet, and how many bytes before it are in none."""

    packet: av.Packet
    skipped: int = 0


class Packets:
    """Iterates over a track's packets once, what is behind a place that cannot be read too."""

    def __init__(self, media: InputContainer, stream: av.AudioStream, file: BinaryIO) -> None:
        self._media, self._stream, self._file = media, stream, file
        self.read_bytes = 0
        """Position in the file where the last packet ends."""
        self.joints: list[int] | None = None
        """Positions where parts in another codec begin, each a file of its own; None before they are looked for."""
        self.given_up = False
        """True if there were too many positions in a row that cannot be read."""
        pictures = sum(1 for each in media.streams.video if each.disposition & Disposition.attached_pic)
        self._alone = len(media.streams) - pictures == 1
        self._all = not self._alone and not CONTIGUOUS.isdisjoint(media.format.name.split(","))

    def __iter__(self) -> Iterator[PacketAt]:
        failures, skipped = 0, 0
        while failures < MAX_FAILURES:
            try:
                for packet in self._media.demux() if self._all else self._media.demux(self._stream):
                    failures = 0
                    if self.joints and (packet.pos or 0) >= self.joints[0]:
                        return
                    skipped += self._passed_over(packet)
                    if packet.stream.index == self._stream.index:
                        yield PacketAt(packet, skipped)
                        skipped = 0
                return
            except IndexError:
                # At the end PyAV 18.1 asks for streams that only appeared on the way, by a flag beyond the end of its
                # array: what is there decides whether it then fails. All of the track has come by that time.
                return
            except av.FFmpegError:
                failures += 1  # most cost a buffer of FFmpeg's, so that it gets on
                if self.joints is None and self._media.format.name == "ogg":
                    self.joints = codec_changes(self._file)
        self.given_up = True

    def _passed_over(self, packet: av.Packet) -> int:
        if packet.pos is None or not packet.size:
            return 0
        before, self.read_bytes = self.read_bytes, packet.pos + packet.size
        return max(packet.pos - before, 0) if before and (self._alone or self._all) else 0
