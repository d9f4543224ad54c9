"""Transcription of files in process, the same as the endpoint's of an upload, without Ray and HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from asr.audio.decode import DEFAULT_LIMITS, AudioLimits
from asr.inference.engine import Engine
from asr.inference.language_id import LanguageVote
from asr.inference.pipeline import DecodingOptions, check_abilities, joined, open_sound, prepared, spoken_language
from asr.inference.recording import Recording, Window
from asr.sound import DEFAULT_CHOICE, SoundChoice
from asr.transcript import FeatureArray, Transcript, plain_keywords

# Seconds of windows in one call of the engine: 8 MB of features. Engines form their own batches of them.
AT_ONCE_S = 480.0


@dataclass(frozen=True)
class Transcription:
    """Transcript of a file, with the file's length and the time that the work took, in seconds.

    ``warnings`` are about the audio: damage that is silence now, a choice that was made.
    """

    file: str
    text: str
    language: str | None
    duration_s: float
    seconds: float
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: str, recording: Recording, seconds: float) -> Transcription:
        """Return the transcription of ``file`` for its recording."""
        warnings = recording.sound.warnings if recording.sound else ()
        return cls(file, recording.text, recording.language, recording.duration_s, seconds, warnings)


def transcribe(
    engine: Engine,
    path: Path,
    language: str | None = None,
    limits: AudioLimits = DEFAULT_LIMITS,
    choice: SoundChoice = DEFAULT_CHOICE,
    keywords: Sequence[str] = (),
) -> Transcription:
    """Transcribe the chosen track and channel of a file of any length within ``limits``.

    Raises UserError for a language that the model does not know, and for keywords if it takes none; DataError for
    keywords that are no plain words, and for a file that cannot be used.
    """
    begun = time.monotonic()
    options = DecodingOptions(spoken_language(language, engine.info), keywords=plain_keywords(keywords))
    recording = transcribe_recording(engine, path, options, limits, choice)
    return Transcription.of(str(path), recording, time.monotonic() - begun)


def transcribe_recording(
    engine: Engine,
    source: bytes | str | Path,
    options: DecodingOptions,
    limits: AudioLimits = DEFAULT_LIMITS,
    choice: SoundChoice = DEFAULT_CHOICE,
) -> Recording:
    """Return the transcript of a recording: the same words as the endpoint answers.

    Raises UserError if the model cannot do what is asked, DataError for a recording that cannot be used.
    """
    check_abilities(options, engine.info)
    sound = open_sound(source, limits, engine.info, choice)
    ready = prepared(sound, engine.info)
    language = LanguageVote(options.language, options.language_per_window)
    at_once = int(AT_ONCE_S / engine.info.window_s)
    results: list[tuple[Window, Transcript]] = []
    while found := list(islice(ready, language.at_once(at_once))):
        transcripts = _decoded(engine, found, options, language)
        results += [(window, transcript) for (window, _), transcript in zip(found, transcripts, strict=True)]
    return joined(results, options, sound.duration_s, sound.report)


def _decoded(
    engine: Engine,
    found: Sequence[tuple[Window, FeatureArray]],
    options: DecodingOptions,
    language: LanguageVote,
) -> list[Transcript]:
    transcripts = engine.decode([options.clip(features, language.language) for _, features in found])
    wrong = language.count([window for window, _ in found], transcripts)
    again = engine.decode([options.clip(found[i][1], language.language) for i in wrong]) if wrong else []
    for i, transcript in zip(wrong, again, strict=True):
        transcripts[i] = transcript
    return transcripts
