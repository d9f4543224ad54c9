"""OpenAI's response formats of a recording, as pure functions."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Literal

from asr.inference.recording import RecordedSegment, RecordedWord, Recording
from asr.language import UNSPACED, name
from asr.sound import SoundReport
from asr.transcript import Task

Granularity = Literal["segment", "word"]

_DOUBTFUL = -100.0  # for a log-probability without end, which strict JSON cannot hold
_FRAMES_PER_S = 100  # `seek` counts frames of the log-mel spectrogram


def as_text(recording: Recording) -> str:
    """Return the text and a newline."""
    return f"{recording.text}\n"


def as_json(recording: Recording) -> dict[str, object]:
    """Return the fields of ``openai.types.audio.Transcription``."""
    return {"text": recording.text, "usage": usage(recording)}


def as_verbose_json(
    recording: Recording, task: Task = "transcribe", granularities: Sequence[Granularity] = ("segment",)
) -> dict[str, object]:
    """Return the fields of ``TranscriptionVerbose``: segments, words or both, as ``granularities`` say.

    Translations are into English, whatever was spoken; the language of a recording without any is "unknown". Beside
    OpenAI's fields are ``audio`` and ``warnings``, if there is a report of decoding, and the ``channel`` of each
    segment and word where each channel was transcribed on its own.
    """
    spoken = "en" if task == "translate" else recording.language
    body: dict[str, object] = {
        "task": task,
        "language": name(spoken).lower() if spoken else "unknown",
        "duration": _rounded(recording.duration_s),
        "text": recording.text,
    }
    if "segment" in granularities:
        body["segments"] = [_segment(segment) for segment in recording.segments]
    if "word" in granularities:
        body["words"] = [_word(word) for word in recording.words if word.text.strip()]
    return body | {"usage": usage(recording)} | (_found(recording.sound) if recording.sound else {})


def usage(recording: Recording) -> dict[str, object]:
    """Return the length of the audio in begun seconds, as OpenAI bills it; of each channel that was transcribed."""
    return {"type": "duration", "seconds": math.ceil(recording.decoded_s)}


def as_srt(recording: Recording) -> str:
    """Return SubRip subtitles: numbered from 1, ``00:00:01,234``, a cue of one line for each segment.

    It begins with ``channel 0:`` where each channel was transcribed on its own: SubRip has no other place for that.
    """
    cues = []
    for number, segment in enumerate(recording.segments, start=1):
        text = _line(segment.text).replace("-->", "->")  # SubRip has no way to write an arrow that is none
        told = "" if segment.channel is None else f"channel {segment.channel}: "
        cues.append(f"{number}\n{_times(segment, ',')}\n{told}{text}\n\n")
    return "".join(cues)


def as_vtt(recording: Recording) -> str:
    """Return WebVTT subtitles: ``00:00:01.234``, text with ``&``, ``<`` and ``>`` escaped.

    A channel that was transcribed on its own is a voice, ``<v channel 0>``, which players show apart or not at all.
    """
    cues = []
    for segment in recording.segments:
        text = html.escape(_line(segment.text), quote=False)
        told = "" if segment.channel is None else f"<v channel {segment.channel}>"
        cues.append(f"{_times(segment, '.')}\n{told}{text}\n\n")
    return "WEBVTT\n\n" + "".join(cues)


def _found(sound: SoundReport) -> dict[str, object]:
    """Return the track and channel that were taken, and warnings about them."""
    taken = {
        "track": sound.track,
        "tracks": sound.tracks,
        "channel": sound.channel,
        "channels": sound.channels,
        "damaged_s": _rounded(sound.damaged_s),
    }
    return {"audio": taken, "warnings": list(sound.warnings)}


def _segment(segment: RecordedSegment) -> dict[str, object]:
    space = "" if segment.language in UNSPACED else " "  # before the first as well, as Whisper's tokens have it
    return {
        "id": segment.id,
        "seek": round(segment.window_start_s * _FRAMES_PER_S),
        "start": _rounded(segment.start_s),
        "end": _rounded(segment.end_s),
        "text": space + segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": _finite(segment.avg_logprob, _DOUBTFUL),
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": _finite(segment.no_speech_prob, 0.0),
    } | _channel(segment)


def _word(word: RecordedWord) -> dict[str, object]:
    return {"word": word.text.strip(), "start": _rounded(word.start_s), "end": _rounded(word.end_s)} | _channel(word)


def _channel(placed: RecordedSegment | RecordedWord) -> dict[str, int]:
    return {} if placed.channel is None else {"channel": placed.channel}


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _rounded(time_s: float) -> float:
    return round(time_s, 3)


def _line(text: str) -> str:
    """Return ``text`` in one line: an empty line would end the cue."""
    return " ".join(text.split())


def _times(segment: RecordedSegment, point: str) -> str:
    """Return the line of times of a cue, which lasts a millisecond at least: players skip what lasts none."""
    start_ms = round(segment.start_s * 1000)
    end_ms = max(round(segment.end_s * 1000), start_ms + 1)
    return f"{_time(start_ms, point)} --> {_time(end_ms, point)}"


def _time(time_ms: int, point: str) -> str:
    """Return hours (two digits, three past 99), minutes, seconds and milliseconds."""
    seconds, thousandths = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"
