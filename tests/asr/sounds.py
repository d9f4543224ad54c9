"""Tones and files of them, made with real encoders or byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np

from asr.audio import SAMPLE_RATE

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


def encoded(path: Path, waveform: np.ndarray, codec: str, container: str, rate: int = 48_000, **options: str) -> Path:
    """Write ``waveform`` [samples] at ``rate`` with a real encoder."""
    with av.open(path, "w", format=container, options=options) as media:
        stream = media.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=rate, frame_size=stream.codec_context.frame_size
        )
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
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
