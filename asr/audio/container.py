"""Opens a recording with FFmpeg: only audio and film containers, one of their audio tracks, nothing by its name."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
from av.stream import Disposition

from asr.audio.track.downmix import MAX_CHANNELS
from asr.errors import DataError
from asr.io.address import open_address, raw_container

if TYPE_CHECKING:
    from av.container import InputContainer

# What real recordings stay within. A header may claim 1 Hz, and resampling that up multiplies memory by 16,000.
SOURCE_RATES = range(1_000, 768_001)

# A demuxer outside this list is refused: playlists (concat, hls, dash, sdp) open other files and addresses by name.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,g722,gsm,ircam,latm,loas,matroska,mov,mp3,"
    "mpc,mpc8,mpeg,mpegts,nistsphere,ogg,qcp,shn,sln,sox,tak,tta,voc,w64,wav,wv"
)


_SPECIAL = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.clean_effects
    | Disposition.karaoke
    | Disposition.descriptions
)


class _Nameless:
    """A file as PyAV needs it, without the name from which FFmpeg would guess formats and find neighbours.

    A header may name any place: one that no file has is empty, or no place, whatever kind of file it is.
    """

    def __init__(self, file: BinaryIO, place: str) -> None:
        self.file, self.place = file, place
        self.tell = file.tell

    def read(self, count: int = -1) -> bytes:
        try:
            return self.file.read(count)
        except OSError as error:
            raise DataError("unreadable", f"{self.place}: {error.strerror or error}") from None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            if whence != os.SEEK_SET or offset < 0:
                return -1  # FFmpeg's own error: PyAV would end the whole command with ours
            self.file.seek(0, os.SEEK_END)
            return offset


@dataclass(frozen=True)
class OpenFile:
    """An open file that its owner closes, with its name in error messages.

    ``container`` is FFmpeg's name of its format, where nothing in the file says that.
    """

    place: str
    file: BinaryIO
    size: int
    container: str | None = None


Source = str | Path | bytes | OpenFile


@contextlib.contextmanager
def opened(
    source: Source, container: str | None = None, max_bytes: int | None = None
) -> Iterator[tuple[str, BinaryIO, InputContainer]]:
    """Yield what errors call the source, its file, and its container as PyAV reads it.

    ``source`` and ``container`` are as in ``asr.audio.decode.decode``. Raises DataError with the reason missing_file,
    missing_audio, unreadable, empty_file, too_large or not_audio.
    """
    if isinstance(source, OpenFile):
        source.file.seek(0)
        with _opened(source, container, max_bytes) as media:
            yield source.place, source.file, media
        return
    mine = open_source(source)
    with mine.file, _opened(mine, container, max_bytes) as media:
        yield mine.place, mine.file, media


def open_source(source: str | Path | bytes) -> OpenFile:
    """Open an address or the bytes of a file; the caller closes it. Raises DataError as ``open_address``."""
    if isinstance(source, bytes):
        return OpenFile("uploaded bytes", io.BytesIO(source), len(source))
    return OpenFile(str(source), *open_address(source), raw_container(source))


def _opened(source: OpenFile, container: str | None, max_bytes: int | None) -> InputContainer:
    place, size = source.place, source.size
    if size == 0:
        raise DataError("empty_file", f"{place}: 0 bytes")
    if max_bytes is not None and size > max_bytes:
        raise DataError("too_large", f"{place}: {size:,} bytes, over {max_bytes:,}")
    return open_media(source.file, place, container or source.container)


def open_media(file: BinaryIO, place: str, container: str | None) -> InputContainer:
    """Return the container of an open file as PyAV reads it. Raises DataError not_audio."""
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
    try:
        # Tags of old files are in any encoding: without "replace" a Latin-1 title is a UnicodeDecodeError.
        media: InputContainer = av.open(
            _Nameless(file, place), format=container, container_options=options, metadata_errors="replace"
        )
        return media
    except av.FFmpegError as error:
        raise DataError("not_audio", f"{place}: FFmpeg finds no audio container ({error.strerror})") from None


@dataclass(frozen=True)
class Track:
    """An audio track as PyAV reads it, its ``number`` from 0 and how many audio tracks there are."""

    stream: av.AudioStream
    number: int
    count: int


def audio_track(media: InputContainer, place: str, wanted: int | None = None) -> Track:
    """Return the ``wanted`` audio track of what ``opened`` yields, or the one that the container marks as its default.

    Where it marks none, or several, that is the first of them that is for everybody, and no commentary.
    Raises DataError not_audio, no_track, unsupported or corrupt.
    """
    streams = list(media.streams.audio)
    usable = [number for number, stream in enumerate(streams) if stream.codec_context is not None]
    if not usable:
        raise DataError("not_audio", f"{place}: no audio stream that can be decoded in {media.format.name}")
    if wanted is not None and wanted not in usable:
        there = "one audio track, 0" if len(streams) == 1 else f"{len(streams)} audio tracks, from 0 on"
        raise DataError("no_track", f"{place}: there is no track {wanted} that can be decoded: it has {there}")
    number = wanted if wanted is not None else max(usable, key=lambda each: (*_rank(streams[each]), -each))
    context = streams[number].codec_context
    check_plausible(place, context.sample_rate, context.channels)
    return Track(streams[number], number, len(streams))


def origin_s(media: InputContainer) -> float:
    """Return the time stamp, in seconds, that is time zero of a container: where the earliest of its tracks begins.

    A stamp before zero is what encoders add in front and decoders throw away. MPEG has none: FFmpeg counts back from
    where its clock of 33 bits begins again.
    """
    start_s = float(media.start_time or 0) / 1e6
    return start_s if media.format.name.startswith("mpeg") else max(start_s, 0.0)


def check_plausible(place: str, rate: int, channels: int) -> None:
    """Raise DataError for a rate, in Hz, that no recording has (corrupt), or for too many channels (unsupported)."""
    if rate not in SOURCE_RATES or channels < 1:
        raise DataError("corrupt", f"{place}: claims {rate} Hz and {channels} channels")
    if channels > MAX_CHANNELS:
        raise DataError("unsupported", f"{place}: has {channels} channels, {MAX_CHANNELS} can be mixed")


def _rank(stream: av.AudioStream) -> tuple[bool, bool]:
    marked = stream.disposition
    special = _SPECIAL & marked
    return bool(Disposition.default & marked), not special
