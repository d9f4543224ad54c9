"""Reads what the header of a recording says, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass

from asr.audio.container import Source, audio_track, opened
from asr.audio.integrity import declared_s
from asr.sound import DEFAULT_CHOICE, SoundChoice


@dataclass(frozen=True)
class Header:
    """A claim, not a fact: FFmpeg's name of the codec (``mp3``, ``flac``, ``pcm_s16le``), rate and channels."""

    codec: str
    sample_rate: int
    channels: int


def header(source: Source, choice: SoundChoice = DEFAULT_CHOICE) -> Header:
    """Return the header of the chosen audio track. Takes and raises what ``asr.audio.decode.decode`` does."""
    with opened(source) as (place, _, media):
        context = audio_track(media, place, choice.track).stream.codec_context
        return Header(context.codec.canonical_name, int(context.sample_rate), int(context.channels))


@dataclass(frozen=True)
class Length:
    """Length of a recording by its container, in seconds.

    ``certain``: a header states it; else it is reckoned from size and bit rate, as for MP3 without a Xing tag and raw
    G.722.
    """

    seconds: float
    certain: bool


def probe(source: Source, *, container: str | None = None, choice: SoundChoice = DEFAULT_CHOICE) -> Length | None:
    """Return how long a recording's container says it lasts, without decoding it; None where it says nothing.

    Raises DataError as ``decode`` does for what is no audio at all; the size of the file does not matter here.
    """
    with opened(source, container) as (place, file, media):
        stream = audio_track(media, place, choice.track).stream
        promised_s = declared_s(media, stream, file)
        if promised_s is not None:
            return Length(promised_s, True)
        if stream.duration is not None:
            return Length(float(stream.duration * stream.time_base), False)
        return None if media.duration is None else Length(float(media.duration / 1e6), False)
