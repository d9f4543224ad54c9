"""A recording as FFmpeg opens it: only containers of sound, only their first audio stream, nothing by its name."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av

from asr.address import open_address, raw_container
from asr.errors import DataError

# What real recordings stay within. A header may claim 1 Hz, and resampling that up multiplies memory by 16,000.
SOURCE_RATES = range(1_000, 768_001)
MAX_CHANNELS = 32

# A demuxer outside this list is refused: playlists (concat, hls, dash, sdp) open other files and addresses by name.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,g722,gsm,ircam,latm,loas,matroska,mov,mp3,"
    "mpc,mpc8,mpeg,mpegts,nistsphere,ogg,qcp,shn,sln,sox,tak,tta,voc,w64,wav,wv"
)


class _Nameless:
    """A file as PyAV needs it, without the name from which FFmpeg would guess formats and find neighbours."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@contextlib.contextmanager
def opened(
    source: str | Path | bytes, container: str | None = None, max_bytes: int | None = None
) -> Iterator[tuple[str, BinaryIO, Any]]:
    """Yield what errors call the source, its file, and its container as PyAV reads it.

    ``source`` and ``container`` are as in ``asr.audio.decode``. Raises DataError with the reason missing_file,
    missing_audio, unreadable, empty_file, too_large or not_audio.
    """
    file: BinaryIO
    if isinstance(source, bytes):
        place = "uploaded bytes"
        file, size = io.BytesIO(source), len(source)
    else:
        place, container = str(source), container or raw_container(source)
        file, size = open_address(source)
    with file:
        if size == 0:
            raise DataError("empty_file", f"{place}: 0 bytes")
        if max_bytes is not None and size > max_bytes:
            raise DataError("too_large", f"{place}: {size:,} bytes, over {max_bytes:,}")
        with _open_media(file, place, container) as media:
            yield place, file, media


def _open_media(file: BinaryIO, place: str, container: str | None) -> Any:
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
    try:
        # Tags of old files are in any encoding: without "replace" a Latin-1 title is a UnicodeDecodeError.
        return av.open(_Nameless(file), format=container, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise DataError("not_audio", f"{place}: FFmpeg finds no audio container ({error.strerror})") from None


def audio_stream(media: Any, place: str) -> Any:
    """Return the first audio stream of what ``opened`` yields. Raises DataError: not_audio, or corrupt."""
    stream = next(iter(media.streams.audio), None)
    if stream is None or stream.codec_context is None:
        raise DataError("not_audio", f"{place}: no audio stream that can be decoded in {media.format.name}")
    check_plausible(place, stream.codec_context.sample_rate, stream.codec_context.channels)
    return stream


def check_plausible(place: str, rate: int, channels: int) -> None:
    """Raise DataError (corrupt) for a rate, in Hz, or number of channels that no recording has."""
    if rate not in SOURCE_RATES or not 1 <= channels <= MAX_CHANNELS:
        raise DataError("corrupt", f"{place}: claims {rate} Hz and {channels} channels")
