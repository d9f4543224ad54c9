"""Transcription of files in process: what the endpoint does with an upload, without Ray and HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from asr.audio import AudioLimits
from serve.engine import Engine
from serve.request import join, prepare, spoken_language


@dataclass(frozen=True)
class Transcription:
    """What was heard in a file, how long the file is and how long the work took, in seconds."""

    file: str
    text: str
    language: str | None
    duration_s: float
    seconds: float


def transcribe(
    engine: Engine, path: Path, language: str | None = None, limits: AudioLimits | None = None
) -> Transcription:
    """Transcribe a file of any length within ``limits``.

    Raises UserError for a language that the model does not know, DataError for a file that cannot be used.
    """
    begun = time.monotonic()
    prepared = prepare(path, spoken_language(language, engine.info), engine.info, limits or AudioLimits())
    heard = join(engine.decode(prepared.clips))
    return Transcription(str(path), heard.text, heard.language, prepared.duration_s, time.monotonic() - begun)
