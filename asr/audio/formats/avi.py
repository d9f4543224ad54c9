"""AVI: packets have no time stamps, and FFmpeg counts those that come. The index behind them shows the lost ones."""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from asr.audio.formats.riff import HEAD_BYTES, Chunk, chunks
from asr.audio.integrity import PLACEHOLDER_BYTES
from asr.audio.track.peek import read_at, size_of

if TYPE_CHECKING:
    import av

MAX_START_S = 3600.0  # FFmpeg takes a later start of a track for a mistake
INDEX_BYTES = 16 << 20  # at the file's end, where an index is looked for: that of an hour with a picture has 4 MB
ENTRY = np.dtype([("name", "S4"), ("flags", "<u4"), ("offset", "<u4"), ("size", "<u4")])


class Layout:
    """Layout of an AVI file: ``movi`` has the packets, ``index`` says where each of them begins.

    ``tracks`` are the headers of each track by their names.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._size = size_of(file)
        self.tracks: list[dict[bytes, bytes]] = []
        self.movi: Chunk | None = None
        self.index: Chunk | None = None
        for chunk in chunks(file, 12, self._size):
            if chunk.name == b"hdrl":
                for track in (each for each in chunks(file, chunk.start, chunk.end) if each.name == b"strl"):
                    parts = chunks(file, track.start, track.end)
                    self.tracks.append({part.name: read_at(file, part.start, min(part.size, 64)) for part in parts})
            elif chunk.name == b"movi":
                self.movi = self.movi or chunk
            elif chunk.name == b"idx1":
                self.index = chunk
        if self.movi and not self.index:
            self.index = _find_index(file, self.movi.start, self._size)


class AviTimes:
    """Puts the packets of an AVI's audio track where its index has them.

    Without an index, the bytes that lie in no chunk take the time of as many that do.
    """

    def __init__(self, stream: av.AudioStream, file: BinaryIO) -> None:
        self._file, self._layout, self._track = file, Layout(file), b"%02d" % stream.index
        self._tick_s = float(stream.time_base)
        self._starts, self._sizes, self._moves = _entries(file, self._layout, stream.index)
        self._number = {start: number for number, start in enumerate(self._starts)}
        header = self._layout.tracks[stream.index] if stream.index < len(self._layout.tracks) else {}
        first, self._per_tick, durations = _durations(header, stream, self._sizes)
        self._counts = list(accumulate(durations, initial=first * self._per_tick))
        self._last = -1  # the entry of the last packet
        self._expected = -1  # where the next one is
        self._begin, self._end = 0, 0  # of the last chunk's content
        self._shift = 0  # ticks that FFmpeg's count is behind
        self.seekable = bool(self._number) and self._agrees(stream.index_entries)
        """True if FFmpeg has read the same index, and goes by it."""

    def place(self, packet: av.Packet) -> float:
        """Give a packet its true time, and return how many seconds of sound before it were lost."""
        position, lost = packet.pos, 0
        if position == self._expected and not self._shift:
            self._take(self._last + 1, position)
        elif position is not None and not self._begin <= position < self._end and packet.pts is not None:
            lost = self._indexed(position, packet.pts) if self._number else self._unread(position, packet.pts)
        if self._shift and packet.pts is not None:
            packet.pts = packet.dts = packet.pts + self._shift
        return lost * self._tick_s

    def end(self) -> tuple[float, bool]:
        """Return until when, as a time stamp in seconds, more should have come, and whether that was sound."""
        left = self._sizes[self._last + 1 :]
        return (self._counts[-1] / self._per_tick * self._tick_s if left else 0.0), any(left)

    def cut(self, decoded_s: float) -> str:
        """Say that the file ends before its packets do, or return "". Where an index is behind them, it has its end."""
        movi, size = self._layout.movi, size_of(self._file)
        if not movi or self._layout.index or movi.size >= PLACEHOLDER_BYTES or size >= movi.end - 1:
            return ""
        return f"{size:,} bytes of {movi.end:,} are there, {decoded_s:.2f} s"

    def _agrees(self, entries: av.index.IndexEntries) -> bool:
        if not len(entries):
            return False
        last = entries[len(entries) - 1]
        number = self._number.get(last.pos, -1)
        return number == len(self._sizes) - 1 and self._counts[number] == int(last.timestamp)

    def _take(self, number: int, position: int) -> None:
        """Take note of the entry of the last packet, and of where the next one's is."""
        self._last, self._begin, self._end = number, position, position + self._sizes[number]
        following = number + 1
        known = following < len(self._sizes) and self._sizes[following]
        self._expected = position + self._starts[following] - self._starts[number] if known else -1

    def _indexed(self, position: int, stamp: int) -> int:
        """Return how many ticks were lost before a packet that begins a chunk."""
        number = self._entry(position)
        if number is None:
            return 0
        between = self._sizes[self._last + 1 : number]
        late = self._counts[number] // self._per_tick - stamp - self._shift
        self._take(number, position)
        if late <= 0 or not (between or self._shift):  # chunks that follow each other are only late behind others
            return 0
        self._shift += late
        return late if any(between) else 0  # empty chunks are a pause

    def _entry(self, position: int) -> int | None:
        """Return the entry of the chunk whose content begins there, None where there is none."""
        found = [self._number.get(position - HEAD_BYTES + moved) for moved in self._moves]
        later = [number for number in found if number is not None and number > self._last]
        if len(later) < 2 or self._last + 1 in later:
            return min(later, default=None)
        sizes = _sizes(self._file, position - HEAD_BYTES, self._track)  # where bytes are missing, small chunks coincide
        return max(later, key=lambda number: sum(map(int.__eq__, sizes, self._sizes[number:])))

    def _unread(self, position: int, stamp: int) -> int:
        """Return how many ticks the bytes before a packet take that are in no chunk."""
        movi, before = self._layout.movi, self._end
        if not movi:
            return 0
        size = int.from_bytes(read_at(self._file, position - 4, 4), "little")
        self._begin, self._end = position, position + size + size % 2
        count = _outside_chunks(self._file, before, position - HEAD_BYTES) if before else 0
        late = round((stamp + self._shift) * count / max(position - count - movi.start, 1))
        self._shift += late
        return late


def _entries(file: BinaryIO, layout: Layout, number: int) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Return where the index has a track's chunks, their sizes, and by how much they may have moved."""
    movi, index = layout.movi, layout.index
    nothing: tuple[list[int], list[int], tuple[int, ...]] = [], [], (0,)
    if not movi or not index:
        return nothing
    data = read_at(file, index.start, index.size)
    entries = np.frombuffer(data[: len(data) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
    if not len(entries):
        return nothing
    first, base = entries[0], movi.start - 4
    if int(first["offset"]) >= movi.start and read_at(file, base + int(first["offset"]), 4) != first["name"]:
        base = 0  # some writers count from the file's beginning
    last = entries[-1]
    end = base + int(last["offset"]) + HEAD_BYTES + int(last["size"]) if movi.size >= PLACEHOLDER_BYTES else movi.end
    own = entries[np.char.startswith(entries["name"], b"%02d" % number)]
    moved = end + end % 2 - (index.start - HEAD_BYTES)
    starts, sizes = own["offset"].astype(np.int64) + base, own["size"].astype(np.int64)
    if np.any(np.diff(starts) < sizes[:-1] + HEAD_BYTES) or np.any(starts + sizes > end):
        return nothing  # it is damaged itself
    return starts.tolist(), own["size"].tolist(), (0, moved)


def _durations(header: dict[bytes, bytes], stream: av.AudioStream, sizes: list[int]) -> tuple[int, int, list[int]]:
    """Return when a track starts [ticks], how many units a tick has, and how many of them each chunk lasts.

    As FFmpeg has it: bytes where the header says what a sample takes, else packets.
    """
    about, sound = header.get(b"strh", b"").ljust(48, b"\0"), header.get(b"strf", b"").ljust(16, b"\0")
    (start,), (sample,) = struct.unpack("<I", about[28:32]), struct.unpack("<I", about[44:48])
    (block,) = struct.unpack("<H", sound[12:14])
    start = start if start * stream.time_base <= MAX_START_S else 0
    if sample:
        return start, block or sample, sizes
    of_frames = block > 4 or (block and stream.codec_context.name != "aac")
    return start, 1, [max(-(-size // block), 1) if of_frames else 1 for size in sizes]


def _find_index(file: BinaryIO, start: int, end: int) -> Chunk | None:
    """Return the index of a file in which it is not where it should be."""
    start = max(start, end - INDEX_BYTES)
    tail = read_at(file, start, INDEX_BYTES)
    at = tail.rfind(b"idx1")
    while at >= 0:
        size = int.from_bytes(tail[at + 4 : at + 8], "little")
        if size and size % ENTRY.itemsize == 0 and start + at + HEAD_BYTES + size <= end:
            return Chunk(b"idx1", start + at + HEAD_BYTES, size)
        at = tail.rfind(b"idx1", 0, at)
    return None


def _sizes(file: BinaryIO, start: int, track: bytes) -> list[int]:
    """Return the sizes of a track's next chunks, as far as they follow each other."""
    return [chunk.size for chunk in chunks(file, start, size_of(file)) if chunk.name.startswith(track)]


def _outside_chunks(file: BinaryIO, start: int, end: int) -> int:
    """Return how many of the bytes from ``start`` to ``end`` no chunk accounts for."""
    reached = start
    for chunk in chunks(file, start, end):
        if chunk.name in (b"rec ", b"movi", b"AVIX"):
            return _outside_chunks(file, chunk.start, end)
        reached = chunk.end + chunk.size % 2
    return max(end - reached, 0) if reached <= end else end - start
