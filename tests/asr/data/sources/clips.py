"""Writing real clips in the codecs that data sets use, and saying whether a source gave them back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode
from asr.data.sources import SourceConfig, rows
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance

CODECS = {"mp3": ("libmp3lame", "mp3"), "wav": ("pcm_s16le", "wav"), "flac": ("flac", "flac"), "g722": ("g722", "g722")}


def audio(clip: Utterance, kind: str) -> bytes:
    """The bytes of a clip as ``mp3``, ``wav``, ``flac`` or ``g722``."""
    return _encoded(str(clip.audio), kind)


@cache
def _encoded(path: str, kind: str) -> bytes:
    codec, container = CODECS[kind]
    waveform = decode(path)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as media:
        stream = media.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        size = stream.codec_context.frame_size
        resampler = av.AudioResampler(stream.format, "mono", SAMPLE_RATE, size)
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            media.mux(stream.encode(part))
        media.mux(stream.encode(None))
    return buffer.getvalue()


def name(clip: Utterance, kind: str) -> str:
    return f"{Path(str(clip.audio)).stem}.{kind}"


def write_audio(folder: Path, clips: Sequence[Utterance], kind: str) -> list[str]:
    """Write each clip into ``folder``; returns the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        (folder / name(clip, kind)).write_bytes(audio(clip, kind))
    return [name(clip, kind) for clip in clips]


def read(source: str, **settings: Any) -> list[Utterance | Quarantined]:
    return list(rows(SourceConfig(source=source, **settings), Path("/nowhere")))


def good(found: Sequence[Utterance | Quarantined]) -> list[Utterance]:
    assert [row for row in found if isinstance(row, Quarantined)] == []
    return [row for row in found if isinstance(row, Utterance)]


def assert_same_speech(found: Sequence[Utterance | Quarantined], clips: Sequence[Utterance]) -> None:
    """The same texts in the same order, ids of their own, and audio that is the same speech after any codec."""
    utterances = good(found)
    assert [row.text for row in utterances] == [clip.text for clip in clips]
    assert len({row.id for row in utterances}) == len(clips)
    for row, clip in zip(utterances, clips, strict=True):
        assert likeness(decode(row.audio, start_s=row.start_s, end_s=row.end_s), decode(clip.audio)) > 0.9


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation at the best shift within 100 ms: encoders delay."""
    assert abs(len(first) - len(second)) < 0.2 * SAMPLE_RATE
    size = len(first) + len(second)
    product = np.fft.irfft(np.fft.rfft(first, size) * np.conj(np.fft.rfft(second, size)), size)
    shifts = np.concatenate([product[:1600], product[-1600:]])
    return float(shifts.max() / np.sqrt((first**2).sum() * (second**2).sum()))


def message(source: str, **settings: Any) -> str:
    """The one line that a person gets who has to mend something."""
    with pytest.raises(UserError) as caught:
        read(source, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)
