"""Streams of bare frames (MP3, ADTS): the tags among them, and the bytes that FFmpeg dropped without a word."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

from asr.audio.formats.tags import MARKS, tag_bytes
from asr.audio.integrity import missing_bytes
from asr.audio.track.peek import read_at

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

SEARCHED_BYTES = 1 << 20  # after damage, for the next frame; of a minute of sound, and more of it is no small damage
COMPARED_BYTES = 32

# Bits that all the frames of a stream begin with: the sync word, and what does not change (MP3: version, layer, rate).
STEADY_BITS = {
    "mp3": 0xFFFE0C00,
    "aac": 0xFFFEFC00,
    "ac3": 0xFFFF0000,
    "eac3": 0xFFFF0000,
    "dts": 0xFFFFFFFF,
    "loas": 0xFFE00000,
    "latm": 0xFFE00000,
    "amr": 0x83000000,
    "amrnb": 0x83000000,
    "amrwb": 0x83000000,
}
IN_WAV = {"mp3float": "mp3", "mp3": "mp3", "mp2float": "mp3", "mp2": "mp3", "ac3": "ac3", "eac3": "eac3"}
INFO_MARKS = (b"Xing", b"Info", b"VBRI")  # in a frame that counts the others, and is no sound; in its first bytes
INFO_WITHIN = 64
EQUAL = frozenset({"ac3", "eac3"})  # frames of one size, but for a word; FFmpeg adds damage to the one before it


def kind_of(media: InputContainer, stream: av.AudioStream) -> str:
    """Return the name of an opened container's format, or of that of the bare frames which a WAV holds."""
    name = str(media.format.name)
    return IN_WAV.get(stream.codec_context.name, name) if name in ("wav", "w64") else name


def intact_until(packets: Iterable[av.Packet], file: BinaryIO, format_name: str, until: float = math.inf) -> float:
    """Pass packets without decoding, and return the tick up to which all are sound, end to end; infinity for all of it.

    Behind it something is no sound, or was thrown away: time stamps are then not those of the sound, and only decoding
    finds out. Ends at the tick ``until``. ``file`` is the one that the packets come from
    (``asr.audio.track.packets``, which gets on behind what cannot be read).
    """
    mask, end, tick = STEADY_BITS.get(format_name, 0), 0, 0.0
    first, usual = None, 0  # what the first one begins with, and its size
    head, place = b"", 0
    for number, packet in enumerate(packets):
        if not packet.size or tick >= until:
            tick = tick if packet.size else math.inf
            break
        head, place = bytes(memoryview(packet)[:INFO_WITHIN]), packet.pos
        steady = int.from_bytes(head[:4]) & mask
        first, usual = (steady, packet.size) if first is None else (first, usual)
        counts = number and any(mark in head for mark in INFO_MARKS)
        merged = format_name in EQUAL and abs(packet.size - usual) > 2
        if steady != first or counts or merged or place is None or (end and place != end) or packet.pts is None:
            return tick
        end, tick = place + packet.size, packet.pts + (packet.duration or 0)
    # FFmpeg's ADTS reader does not count what it throws away: from there on, positions are not those of the file.
    return tick if read_at(file, place, len(head)) == head else 0.0


class RawFrames:
    """Checks the packets of such a stream in their order, with the file that they come from."""

    def __init__(self, file: BinaryIO, format_name: str) -> None:
        self._file = file
        self._mask = STEADY_BITS.get(format_name, 0)
        self._largest = 0  # of the packets that were sound
        self._tag_end = 0
        # The last packet that was sound, and where it began: a tag may begin in it.
        self._before: av.Packet | None = None
        self._before_at = 0
        self._behind = 0  # how much further on in the file a packet lies than FFmpeg says
        self._lost = False
        self._missing = missing_bytes(file) if format_name == "mp3" else 0

    def skipped(self, packet: av.Packet) -> int:
        """Return how many bytes before a packet are in none. FFmpeg's ADTS reader does not count them in positions.

        What an MP3 lacks of the bytes that it counts is missing at its first damage, where there is one.
        """
        if not self._lost:
            return 0
        self._lost = False
        head = bytes(memoryview(packet)[:COMPARED_BYTES])
        told = packet.pos + self._behind
        found = read_at(self._file, told, SEARCHED_BYTES).find(head)
        self._behind += max(found, 0)
        missing, self._missing = self._missing, 0
        return max(found, 0) + missing

    def is_tag(self, packet: av.Packet) -> bool:
        """Return whether a packet begins within a tag: a cover may look like frames."""
        return bool(packet.pos + self._behind < self._tag_end)

    def keep(self, packet: av.Packet) -> None:
        """Take note of a packet that was decoded."""
        self._before, self._before_at = packet, packet.pos + self._behind
        self._largest = max(self._largest, packet.size)

    def is_frame(self, packet: av.Packet) -> bool:
        """Return whether a packet is one frame, even if damaged within: its own duration is then true."""
        if self._before is None or packet.size > 2 * self._largest:
            return False
        heads = [int.from_bytes(bytes(memoryview(each)[:4])) & self._mask for each in (packet, self._before)]
        return heads[0] == heads[1]

    def lose(self, packet: av.Packet) -> bool:
        """Take note of a packet that was not, and return whether that is because it is a tag."""
        before, start = bytes(self._before or b""), self._before_at
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
