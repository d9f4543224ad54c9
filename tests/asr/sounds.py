"""Tones and files of them, made with real encoders or byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode_to
from asr.sound import SoundReport

TONE_HZ = 440.0
PCM, FLOAT = 1, 3


def tone(seconds: float, rate: int = SAMPLE_RATE, hz: float = TONE_HZ) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def riff(data: bytes, rate: int = SAMPLE_RATE, channels: int = 1, bits: int = 16, kind: int = PCM) -> bytes:
    width = channels * bits // 8
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * width % 2**32, width, bits)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wav16(waveform: np.ndarray, rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    """``waveform`` [samples] or [samples, channels] as 16-bit PCM."""
    return riff((waveform * 32767).astype("<i2").tobytes(), rate, channels)


def encoded(
    path: Path,
    waveform: np.ndarray,
    codec: str,
    container: str,
    rate: int = 48_000,
    layout: str = "mono",
    **options: str,
) -> Path:
    """Write ``waveform`` [samples] at ``rate`` with a real encoder, as every channel of ``layout``."""
    with av.open(path, "w", format=container, options=options) as media:
        stream = _added(media, codec, rate, layout)
        resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size
        )
        planes = np.tile(waveform, (av.AudioLayout(layout).nb_channels, 1))
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            media.mux(stream.encode(part))
        media.mux(stream.encode(None))
    return path


CODECS = {
    "mp3": ("libmp3lame", "mp3"),
    "opus": ("libopus", "ogg"),
    "flac": ("flac", "flac"),
    "m4a": ("aac", "mp4"),
    "webm": ("libopus", "webm"),
    "aiff": ("pcm_s16be", "aiff"),
}


@dataclass(frozen=True)
class Voice:
    """A track to be muxed: its samples, where it begins, a pause in its time stamps, whether it is the default."""

    waveform: np.ndarray
    start_s: float = 0.0
    pause_at_s: float = 0.0
    pause_s: float = 0.0
    default: bool = False


def muxed(
    path: Path, container: str, codec: str, voices: Sequence[Voice], picture_s: float = 0.0, **options: str
) -> Path:
    """Write the tracks, 16 kHz each, behind a picture of so many seconds."""
    with av.open(path, "w", format=container, options=options) as media:
        packets: list[Any] = []
        picture = media.add_stream("flv1" if container == "flv" else "mpeg4", rate=5) if picture_s else None
        if picture is not None:
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        streams = [_added(media, codec, SAMPLE_RATE) for _ in voices]
        for stream, voice in zip(streams, voices, strict=True):
            stream.disposition = Disposition.default if voice.default else Disposition(0)
            for packet in _packets(stream, voice):
                late_s = voice.start_s + (voice.pause_s if packet.pts * packet.time_base >= voice.pause_at_s else 0.0)
                packet.pts = packet.dts = packet.pts + round(late_s / packet.time_base)
                packets.append(packet)
        if picture is not None:
            for number in range(round(picture_s * 5)):
                seen = np.random.default_rng(number).integers(0, 256, (48, 32), np.uint8)  # a new frame holds anything
                frame = av.VideoFrame.from_ndarray(seen, "yuv420p")
                frame.pts = number
                packets += picture.encode(frame)
            packets += picture.encode(None)
        media.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


def _added(media: Any, codec: str, rate: int, layout: str = "mono") -> Any:
    stream = media.add_stream(codec, rate=rate, layout=layout)
    if codec == "wmav2":
        stream.bit_rate = 32_000  # it has none of its own
    return stream


def _packets(stream: Any, voice: Voice) -> list[Any]:
    resampler = av.AudioResampler(
        format=stream.format, layout="mono", rate=SAMPLE_RATE, frame_size=stream.codec_context.frame_size or 1024
    )
    frame = av.AudioFrame.from_ndarray(voice.waveform[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    parts = [*resampler.resample(frame), *resampler.resample(None), None]
    return [packet for part in parts for packet in stream.encode(part) if packet.pts is not None]


def loud(waveform: np.ndarray) -> list[tuple[float, float]]:
    """Stretches, in seconds, in which a tone is heard; 0.1 s without one part them."""
    where = np.flatnonzero(np.abs(waveform) > 0.2) / SAMPLE_RATE
    if not len(where):
        return []
    breaks = np.flatnonzero(np.diff(where) > 0.1)
    starts, ends = [0, *(breaks + 1)], [*breaks, len(where) - 1]
    return [(round(float(where[a]), 2), round(float(where[b]), 2)) for a, b in zip(starts, ends, strict=True)]


LENIENT = AudioLimits(max_damaged_share=0.5)


def heard(source: Path | bytes, limits: AudioLimits = LENIENT, **options: Any) -> tuple[np.ndarray, SoundReport]:
    """Return the waveform of a file that may be damaged, and what was found. ``options`` are those of ``decode_to``."""
    blocks: list[np.ndarray] = []
    report = decode_to(blocks.append, source, limits=limits, **options)
    assert report.samples == sum(map(len, blocks))
    return np.concatenate(blocks), report
