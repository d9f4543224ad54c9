"""Sound in: audio of any kind that FFmpeg reads, as 16 kHz mono float32 within limits. Sound out: FLAC."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from pydantic import Field

from asr.config import Section
from asr.errors import DataError
from asr.media import audio_stream, check_plausible, opened
from asr.sound import DEFAULT_CHOICE, SoundChoice, SoundReport
from asr.truncation import declared_s, missing_end

SAMPLE_RATE = 16_000
MAX_FRAME_SAMPLES = 1 << 22  # one forged ALAC frame would otherwise allocate 512 MB

SEEK_AHEAD_S = 0.5  # decoders with memory (G.722, Opus, MP3) have settled by the time the wanted stretch begins


class AudioLimits(Section):
    """What one piece of audio may cost. All of them hold while decoding, so a forged header cannot get past."""

    max_bytes: int = Field(100 * 1024 * 1024, gt=0)
    """Size of the file or upload as it comes."""
    max_audio_s: float = Field(3600.0, gt=0)
    """Length of the decoded audio, or of the stretch asked for."""
    min_audio_s: float = Field(0.025, ge=0)
    """Shorter is no speech; the default is one analysis window of the log-mel spectrogram (400 samples)."""
    max_source_samples: int = Field(1_000_000_000, gt=0)
    """Samples before resampling, all channels together: an hour of 96 kHz stereo is 691 million."""
    max_damaged_share: float = Field(0.0, ge=0, le=1)
    """Share of the audio that may be damaged: silence stands in its place. 0: any damage refuses the file."""


DEFAULT_LIMITS = AudioLimits()


def decode(
    source: str | Path | bytes,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: AudioLimits = DEFAULT_LIMITS,
    container: str | None = None,
    choice: SoundChoice = DEFAULT_CHOICE,
) -> np.ndarray:
    """Return the waveform [samples] of ``source`` at 16 kHz as float32, channels averaged, nominally within -1..1.

    ``source`` is an address as in ``asr.address`` (a path, ``file://``, ``s3://``, a member of a container), or the
    bytes of a file. ``container`` names the FFmpeg format where the content does not give it away (raw ``g722``); a
    name ending in ``.g722`` says that by itself, no other name is trusted.
    Raises DataError with the reason missing_file, missing_audio, unreadable, empty_file, not_audio, no_samples,
    too_short, too_long, too_large, truncated, non_finite or corrupt.
    """
    blocks: list[np.ndarray] = []
    decode_to(blocks.append, source, start_s=start_s, end_s=end_s, limits=limits, container=container, choice=choice)
    return np.concatenate(blocks)


def decode_to(
    sink: Callable[[np.ndarray], object],
    source: str | Path | bytes,
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
    with opened(source, container, limits.max_bytes) as (place, file, media):
        stretch = _Stretch(place, start_s, end_s, limits, sink)
        _decode_into(stretch, media, file)
    return SoundReport(stretch.checked())


def encode_flac(waveform: np.ndarray) -> bytes:
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


class _Stretch:
    """The wanted stretch of a recording, block by block. Positions are 16 kHz samples from its beginning."""

    def __init__(
        self,
        place: str,
        start_s: float,
        end_s: float | None,
        limits: AudioLimits,
        sink: Callable[[np.ndarray], object],
    ) -> None:
        self.place = place
        self.limits = limits
        self.sink = sink
        self.start = round(start_s * SAMPLE_RATE)
        self.end = None if end_s is None else round(end_s * SAMPLE_RATE)
        self.position = 0
        self.kept = 0
        self.wild = 0  # NaN or infinite

    @property
    def complete(self) -> bool:
        return self.end is not None and self.position >= self.end

    def add(self, block: np.ndarray) -> None:
        first = max(self.start - self.position, 0)
        last = len(block) if self.end is None else min(self.end - self.position, len(block))
        self.position += len(block)
        if last > first:
            kept = block[first:last]
            self.kept += len(kept)
            self.wild += len(kept) - int(np.count_nonzero(np.isfinite(kept)))
            self.sink(kept)
        if self.kept > self.limits.max_audio_s * SAMPLE_RATE:
            raise DataError("too_long", f"{self.place}: over {self.limits.max_audio_s:g} s")

    def checked(self) -> int:
        """Return how many samples there are, once all of them have come."""
        if not self.kept:
            after = f" after {self.start / SAMPLE_RATE:g} s" if self.start else ""
            raise DataError("no_samples", f"{self.place}: no audio{after}")
        if self.kept < self.limits.min_audio_s * SAMPLE_RATE:
            detail = f"{self.kept / SAMPLE_RATE:.4f} s, under {self.limits.min_audio_s:g} s"
            raise DataError("too_short", f"{self.place}: {detail}")
        if self.wild:
            raise DataError("non_finite", f"{self.place}: {self.wild} samples are NaN or infinite")
        return self.kept


class _MonoResampler:
    """Source frames in, 16 kHz mono blocks out; a change of rate or channels on the way is followed."""

    def __init__(self) -> None:
        self.resampler: Any = None
        self.shape: tuple[str, str, int] | None = None

    def push(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self.shape:
            yield from self.flush()
            # Packed, not planar: PyAV 18.1 counts planes up to a null pointer, so planar data of 8 channels or more
            # is a segmentation fault. And FFmpeg's own downmix to mono adds 3 dB to float stereo and drops the LFE.
            self.resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
            self.shape = shape
        yield from map(_mono, self.resampler.resample(frame))

    def flush(self) -> Iterator[np.ndarray]:
        if self.resampler is not None:
            yield from map(_mono, self.resampler.resample(None))


def _mono(frame: av.AudioFrame) -> np.ndarray:
    channels = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    with np.errstate(invalid="ignore", over="ignore"):  # a NaN in the source is reported once the stretch is whole
        return channels.mean(axis=1, dtype=np.float32)


def _decode_into(stretch: _Stretch, media: Any, file: BinaryIO) -> None:
    place, limits = stretch.place, stretch.limits
    stream = audio_stream(media, place)
    promised_s = declared_s(media, stream, file)
    if stretch.end is None and promised_s is not None and promised_s - stretch.start / SAMPLE_RATE > limits.max_audio_s:
        raise DataError("too_long", f"{place}: {promised_s:.1f} s, over {limits.max_audio_s:g} s")
    try:
        for block in _blocks(media, stream, stretch):
            stretch.add(block)
            if stretch.complete:
                return
    except (av.FFmpegError, ValueError) as error:  # PyAV raises plain ValueError for some malformed frames
        raise DataError("corrupt", f"{place}: {error} after {stretch.position / SAMPLE_RATE:.2f} s") from None
    if stretch.start and not stretch.position:
        return  # sought beyond the end: nothing was decoded that could tell the length
    wanted_s = promised_s if stretch.end is None else stretch.end / SAMPLE_RATE
    lost = missing_end(file, stretch.position / SAMPLE_RATE, wanted_s)
    if lost:
        raise DataError("truncated", f"{place}: {lost}")


def _blocks(media: Any, stream: Any, stretch: _Stretch) -> Iterator[np.ndarray]:
    """Yield 16 kHz blocks from shortly before the stretch on, having told it where the first one lies."""
    origin_s = float((stream.start_time or 0) * stream.time_base)
    sought = stretch.start > SEEK_AHEAD_S * SAMPLE_RATE
    if sought:
        with contextlib.suppress(av.FFmpegError):  # then decoding begins at the beginning, as the timestamps say
            media.seek(int((origin_s + stretch.start / SAMPLE_RATE - SEEK_AHEAD_S) * 1e6))
    resampler = _MonoResampler()
    samples = 0
    for frame in _frames(media, stream, stretch.place):
        check_plausible(stretch.place, frame.sample_rate, frame.layout.nb_channels)
        if samples == 0 and sought:
            if frame.pts is None:
                raise DataError(
                    "corrupt", f"{stretch.place}: no timestamps to find {stretch.start / SAMPLE_RATE:g} s by"
                )
            stretch.position = max(round((frame.time - origin_s) * SAMPLE_RATE), 0)
        samples += frame.samples * frame.layout.nb_channels
        if samples > stretch.limits.max_source_samples:
            raise DataError(
                "too_large", f"{stretch.place}: decodes to over {stretch.limits.max_source_samples:,} samples"
            )
        yield from resampler.push(frame)
    yield from resampler.flush()


def _frames(media: Any, stream: Any, place: str) -> Iterator[av.AudioFrame]:
    stream.codec_context.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
    broken: av.FFmpegError | None = None
    for packet in _packets(media, stream):
        if broken is not None and packet.size:
            raise DataError("corrupt", f"{place}: {broken.strerror} in the middle of the file")
        try:
            yield from packet.decode()
        except av.FFmpegError as error:  # as the last packet it is a cut file, which the length check judges
            broken = error


def _packets(media: Any, stream: Any) -> Iterator[Any]:
    # At the end PyAV 18.1 asks for streams that only appeared on the way, by a flag beyond the end of its array: what
    # is there decides whether it then fails. All of ``stream`` has come by that time.
    with contextlib.suppress(IndexError):
        yield from media.demux(stream)
