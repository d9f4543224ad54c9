"""What the header of an audio file says, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asr.audio import _audio_stream, _opened


@dataclass(frozen=True)
class Header:
    """A claim, not a fact: FFmpeg's name of the codec (``mp3``, ``flac``, ``pcm_s16le``), rate and channels."""

    codec: str
    sample_rate: int
    channels: int


def header(source: str | Path | bytes) -> Header:
    """Return the header of the first audio stream. Takes and raises what ``asr.audio.decode`` does."""
    with _opened(source, None, None) as (place, _, media):
        context = _audio_stream(media, place).codec_context
        return Header(context.codec.canonical_name, int(context.sample_rate), int(context.channels))
