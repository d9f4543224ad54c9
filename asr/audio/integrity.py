"""Checks how much audio a file promises and whether its end is missing. FFmpeg hides this: it trusts the file size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from asr.audio.container import origin_s
from asr.audio.formats import flac
from asr.audio.formats.riff import chunks
from asr.audio.formats.tags import tag_bytes
from asr.audio.track.peek import read_at, size_of

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

# Padding of encoders and rounding of containers stay below this (MP3 at 8 kHz: 0.14 s).
TOLERANCE_S = 0.25

# Containers whose header gives the length. For the rest FFmpeg estimates it from the bit rate, which proves nothing.
DECLARING = frozenset({"aiff", "au", "caf", "flac", "mov", "matroska", "tta", "w64", "wav", "wv"})

# Whoever writes to a pipe does not know the size: SoX writes 0x7FFFF000 and (AIFF) 0x7F000000, others all ones.
PLACEHOLDER_BYTES = 0x7EFF_0000

MAX_FLAC_BLOCKS = 128  # of metadata, as many kinds as there can be (RFC 9639, section 8.1)
FLAC_ALL_ONES = (1 << 36) - 1  # samples; 0 is what its encoders write

EBML_HEADER, SEGMENT = bytes.fromhex("1A45DFA3"), bytes.fromhex("18538067")

FRAGMENT_BYTES = 4 << 20  # in which the next fragment begins: a few seconds of sound, or of a picture

FACT_WITHIN = 1024  # of a WAV's first bytes

OGG_FIRST_PAGE = 0x02
OGG_PAGE_BYTES = 27 + 255 + 255 * 255


def declared_s(media: InputContainer, stream: av.AudioStream, file: BinaryIO) -> float | None:
    """Return where, in seconds of the container's clock, an opened PyAV container's header promises that a track ends.

    None where it promises nothing that is certain: no length, one that FFmpeg reckons from a bit rate, or a size that
    cannot be. ``file`` is the one that ``media`` reads; its position is kept.
    """
    name = media.format.name.split(",")[0]
    if name not in DECLARING and not (name == "mp3" and _counts_frames(file)):
        return None
    if stream.duration is not None:
        # FFmpeg shrinks a WAV file's length to the bytes that are there: stretch it back to what the header says.
        length_s = float(stream.duration * stream.time_base) * (_wav_declared_share(file) if name == "wav" else 1.0)
        if _is_placeholder(name, stream.codec_context, length_s, file):
            return None
        if name in ("wav", "w64") and not stream.codec_context.name.startswith("pcm_") and not _counts_samples(file):
            return None
        if name == "flac" and _cut_out(file):
            return length_s - origin_s(media)
        return length_s + max(float((stream.start_time or 0) * stream.time_base) - origin_s(media), 0.0)
    if media.duration is not None and len(media.streams) == 1:  # else it may be the length of the video
        return float(media.duration / 1e6) - origin_s(media)
    return None


def missing_end(file: BinaryIO, decoded_s: float, wanted_s: float | None) -> str:
    """Say what is missing at the end of a file of which ``decoded_s`` seconds could be decoded, or return "".

    ``wanted_s`` is the length the header promises or the caller asked for, None where nobody knows.
    """
    if wanted_s is not None and wanted_s - decoded_s > TOLERANCE_S:
        return f"{decoded_s:.2f} s of {wanted_s:.2f} s are there"
    return f"the last Ogg page is cut after {decoded_s:.2f} s" if _ogg_page_cut(file) else ""


def is_whole(media: InputContainer, file: BinaryIO) -> bool:
    """Return whether a container states its size and has it all. Matroska states it (RFC 8794), unless it is live."""
    if not media.format.name.startswith("matroska"):
        return False
    position, head = 0, read_at(file, 0, 64)
    for expected in (EBML_HEADER, SEGMENT):
        found, size, head_bytes = _ebml(head[position:] if position < len(head) else b"")
        if found != expected or size is None:
            return False
        position += head_bytes + size
    return position <= size_of(file)


def last_granule(file: BinaryIO, offset: int) -> int:
    """Return the highest position that Ogg pages behind ``offset`` and at the end tell, 0 where there are none.

    FFmpeg passes over pages that are damaged, and does not ask what they would have been (RFC 3533, section 6).
    """
    window, highest = 2 * OGG_PAGE_BYTES, 0
    for tail in (read_at(file, offset, window), read_at(file, max(size_of(file) - window, 0), window)):
        for at in _all(tail, b"OggS"):
            granule = int.from_bytes(tail[at + 6 : at + 14].ljust(8, b"\xff"), "little")
            highest = max(highest, granule if granule < 1 << 63 else 0)  # all ones: no packet ends in the page
    return highest


def fragments_behind(media: InputContainer, stream: av.AudioStream, file: BinaryIO, offset: int) -> bool:
    """Return whether a fragmented MP4 goes on with a track behind the part of it that could be read.

    FFmpeg ends at a fragment that it cannot read. Each says whose samples it holds (ISO 14496-12, 8.8.7).
    """
    if not offset or not media.format.name.startswith("mov"):
        return False
    behind = read_at(file, offset, FRAGMENT_BYTES)
    track = int(stream.id).to_bytes(4)
    return b"moof" in behind and any(behind[at + 8 : at + 12] == track for at in _all(behind, b"tfhd"))


def _all(data: bytes, mark: bytes) -> Iterator[int]:
    """Yield where a mark stands."""
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def _counts_samples(file: BinaryIO) -> bool:
    """Return whether a WAV's ``fact`` chunk counts the samples. Bytes alone tell them only for PCM.

    A program that writes to a pipe leaves the count out, as zero or all ones.
    """
    head = read_at(file, 0, FACT_WITHIN)
    at = head.find(b"fact")
    count = head[at + 8 : at + 12] if head[:4] == b"RIFF" else head[at + 24 : at + 28]
    return at >= 0 and 0 < int.from_bytes(count, "little") < PLACEHOLDER_BYTES


def _cut_out(file: BinaryIO) -> bool:
    """Return whether a FLAC file's frames were cut unchanged from a longer file: the first tells its position there."""
    position, last = 4, False
    for _ in range(MAX_FLAC_BLOCKS):
        head = read_at(file, position, 4)
        if last or len(head) < 4:
            break
        last = bool(head[0] & 0x80)
        position += 4 + int.from_bytes(head[1:])
    return bool(flac.position(read_at(file, position, 16), 1))


def _ebml(head: bytes) -> tuple[bytes, int | None, int]:
    """Return the id of the EBML element that ``head`` begins with, its size and how many bytes both take."""
    if len(head) < 12 or not head[4]:
        return b"", None, 0
    length = 9 - head[4].bit_length()
    size = int.from_bytes(head[4 : 4 + length]) & ((1 << 7 * length) - 1)
    return head[:4], None if size == (1 << 7 * length) - 1 else size, 4 + length


def _is_placeholder(name: str, context: av.AudioCodecContext, length_s: float, file: BinaryIO) -> bool:
    """Return whether the promised size is the most a header can hold, as written to a pipe, and the file has less."""
    if name == "flac":
        return bool(round(length_s * context.sample_rate) >= FLAC_ALL_ONES)
    if name not in ("wav", "w64", "aiff", "au", "caf"):
        return False
    return bool(length_s * (context.bit_rate or 0) / 8 >= PLACEHOLDER_BYTES > size_of(file))


def missing_bytes(file: BinaryIO) -> int:
    """Return how many fewer bytes an MP3 has than its first frame counts, 0 where that does not count them."""
    start, flags, _, count = _info(file)
    return max(count - (size_of(file) - start), 0) if flags & 3 == 3 else 0


def _counts_frames(file: BinaryIO) -> bool:
    """Return whether an MP3's first frame holds the frame count.

    It counts that one file's: not where much more follows than the bytes it counts, as in files that were joined or
    that end in a tag with a picture. FFmpeg then reckons from the bit rate, by the same sixteenth.
    """
    start, flags, _, count = _info(file)
    return bool(flags & 1) and not (flags & 3 == 3 and size_of(file) - start > count * 17 / 16)


def _info(file: BinaryIO) -> tuple[int, int, int, int]:
    """Return where an MP3's first frame begins, and its Xing tag's flags and two first counts; zeros for no tag.

    The counts are frames and bytes where the two lowest flags are set (http://gabriel.mp3-tech.org/mp3infotag.html).
    """
    start = tag_bytes(read_at(file, 0, 32))
    frame = read_at(file, start, 2048)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + 16:
        return start, 0, 0, 0
    flags, first, second = struct.unpack(">III", frame[tag + 4 : tag + 16])
    return start, flags, first, second


def _wav_declared_share(file: BinaryIO) -> float:
    """Bytes of samples by the RIFF header over those in the file; 1.0 for a stream, whose size is 0 or all ones."""
    if read_at(file, 0, 4) != b"RIFF":
        return 1.0
    size = size_of(file)
    data = next((chunk for chunk in chunks(file, 12, size) if chunk.name == b"data"), None)
    if data is None:
        return 1.0
    available = size - data.start
    return data.size / available if 0 < available < data.size < PLACEHOLDER_BYTES else 1.0


def is_chained(file: BinaryIO) -> bool:
    """Return whether an Ogg file ends in another stream than it begins with (RFC 3533, section 4): it was joined."""
    serials, position = set(), 0
    while (head := read_at(file, position, 27))[:4] == b"OggS" and len(head) == 27 and head[5] & OGG_FIRST_PAGE:
        serials.add(head[14:18])
        lengths = read_at(file, position + 27, head[26])
        position += 27 + head[26] + sum(lengths)
    if not serials:
        return False
    size = size_of(file)
    tail = read_at(file, max(size - OGG_PAGE_BYTES, 0), OGG_PAGE_BYTES)
    last = tail.rfind(b"OggS")
    return 0 <= last <= len(tail) - 27 and tail[last + 14 : last + 18] not in serials


def _ogg_page_cut(file: BinaryIO) -> bool:
    """Return whether the last Ogg page is longer than the file (RFC 3533, section 6)."""
    if read_at(file, 0, 4) != b"OggS":
        return False
    size = size_of(file)
    tail = read_at(file, max(size - OGG_PAGE_BYTES, 0), OGG_PAGE_BYTES)
    last = tail.rfind(b"OggS")
    if last < 0:
        return False  # something else follows the last page
    page = tail[last:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
