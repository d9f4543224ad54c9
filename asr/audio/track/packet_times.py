"""Packet times from a container's own bookkeeping, which FFmpeg does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

from asr.audio.formats.asf import AsfTimes
from asr.audio.formats.avi import AviTimes
from asr.audio.formats.flv import FlvTimes
from asr.audio.formats.mpegts import TsTimes

if TYPE_CHECKING:
    import av
    from av.container import InputContainer


class PacketTimes(Protocol):
    """Checks the packets of a track in their order, with the file that they come from."""

    seekable: bool
    """True if FFmpeg finds the true position of a time."""

    def place(self, packet: av.Packet) -> float:
        """Give a packet its true time, and return how many seconds of sound before it were lost."""

    def end(self) -> tuple[float, bool]:
        """Return until when, as a time stamp in seconds, more should have come, and whether that was sound."""

    def cut(self, decoded_s: float) -> str:
        """Say what is missing at the end of a file of which so much was decoded, or return ""."""


def packet_times(media: InputContainer, stream: av.AudioStream, file: BinaryIO) -> PacketTimes | None:
    """Return what tells of the packets of an opened PyAV container's track; None where FFmpeg says all there is."""
    name = media.format.name
    if name == "avi":
        return AviTimes(stream, file)
    if name == "flv":
        return FlvTimes(media, stream, file)
    if name == "mpegts":
        return TsTimes(stream, file)
    return AsfTimes(stream, file) if name == "asf" else None
