"""What the header of a recording says, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asr.media import audio_stream, opened
from asr.truncation import declared_s


@dataclass(frozen=True)
class Header:
    """A claim, not a fact: FFmpeg's name of the codec (``mp3``, ``flac``, ``pcm_s16le``), rate and channels."""

    codec: str
    sample_rate: int
    channels: int


def header(source: str | Path | bytes) -> Header:
    """Return the header of the first audio stream. Takes and raises what ``asr.audio.decode`` does."""
    with opened(source) as (place, _, media):
        context = audio_stream(media, place).codec_context
        return Header(context.codec.canonical_name, int(context.sample_rate), int(context.channels))


def probe_s(source: str | Path | bytes, *, container: str | None = None) -> float | None:
    """Return the seconds that a recording's container says it lasts, without decoding it; None where it says nothing.

    For formats without a length (MP3 without a Xing tag, raw G.722) FFmpeg reckons it from size and bit rate.
    Raises DataError as ``decode`` does for what is no audio at all; the size of the file does not matter here.
    """
    with opened(source, container) as (place, file, media):
        stream = audio_stream(media, place)
        promised_s = declared_s(media, stream, file)
        if promised_s is None and stream.duration is not None:
            promised_s = float(stream.duration * stream.time_base)
        return promised_s if promised_s is not None or media.duration is None else float(media.duration / 1e6)
