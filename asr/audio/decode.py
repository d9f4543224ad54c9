"""Decodes audio of any kind that FFmpeg reads to 16 kHz mono float32, within limits, and encodes FLAC."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
from numpy.typing import NDArray

from asr.audio.container import Source, opened
from asr.audio.limits import DEFAULT_LIMITS, AudioLimits
from asr.audio.track.downmix import SAMPLE_RATE
from asr.audio.track.reading import Reading
from asr.audio.track.seeking import SeekMissed
from asr.audio.track.splice import without_tags
from asr.audio.track.stretch import Stretch
from asr.sound import DEFAULT_CHOICE, SoundChoice, SoundReport

__all__ = ["DEFAULT_LIMITS", "SAMPLE_RATE", "AudioLimits", "decode", "decode_to", "encode_flac"]


def decode(
    source: Source,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: AudioLimits = DEFAULT_LIMITS,
    container: str | None = None,
    choice: SoundChoice = DEFAULT_CHOICE,
) -> NDArray[np.float32]:
    """Return the waveform [samples] of ``source`` at 16 kHz as float32, nominally within -1..1, as ``choice`` says.

    It keeps the container's clock, whose zero is where the earliest of its tracks begins: where time stamps jump ahead
    there is silence, and ``start_s`` and ``end_s`` are times of that clock.

    ``source`` is an address as in ``asr.io.address`` (a path, ``file://``, ``s3://``, a member of a container), or the
    bytes of a file, or an open one. ``container`` names the FFmpeg format where the content does not give it away (raw
    ``g722``); a name ending in ``.g722`` says that by itself, no other name is trusted.
    Raises DataError with the reason missing_file, missing_audio, unreadable, empty_file, not_audio, no_track,
    no_channel, no_samples, unsupported, too_short, too_long, too_large, truncated, non_finite or corrupt.
    """
    blocks: list[NDArray[np.float32]] = []
    decode_to(blocks.append, source, start_s=start_s, end_s=end_s, limits=limits, container=container, choice=choice)
    return np.concatenate(blocks)


def decode_to(
    sink: Callable[[NDArray[np.float32]], object],
    source: Source,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: AudioLimits = DEFAULT_LIMITS,
    container: str | None = None,
    choice: SoundChoice = DEFAULT_CHOICE,
) -> SoundReport:
    """Hand ``sink`` what ``decode`` returns, block by block as it is decoded, and return what was found.

    Raises DataError as ``decode`` does; what was handed over by then is worth nothing.
    """

    def read(from_near: bool) -> SoundReport:
        with opened(source, container, limits.max_bytes) as (place, file, media):
            stretch = Stretch(place, start_s, end_s, limits, sink)
            with without_tags(place, file, media) as frames:
                reading = Reading(stretch, *frames, choice, from_near)
                reading.run()
        return reading.report(stretch.checked())

    try:
        return read(from_near=True)
    except SeekMissed:
        return read(from_near=False)


def encode_flac(waveform: NDArray[np.float32]) -> bytes:
    """Return ``waveform`` [samples], 16 kHz in -1..1 (clipped beyond), as the bytes of a 16-bit mono FLAC file."""
    samples = np.clip(np.round(waveform * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as media:
        stream = media.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        block = stream.codec_context.frame_size or 4096
        for start in range(0, len(samples), block):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + block], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = start
            media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
    return buffer.getvalue()
