"""From audio to clips and from transcripts to text: what the endpoint and in-process transcription have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.audio import SAMPLE_RATE, AudioLimits, decode
from asr.config import suggestion
from asr.decode import Clip, Transcript
from asr.errors import UserError
from asr.language import NAMES, UNSPACED, code
from asr.windows import split_at_quiet
from serve.engine import ModelInfo


@dataclass(frozen=True)
class Prepared:
    """A request ready to decode: one clip for each window of at most 30 s, in order."""

    clips: list[Clip]
    duration_s: float


@dataclass(frozen=True)
class Joined:
    """The text of a whole recording, and the language most of it was decoded in."""

    text: str
    language: str | None


def spoken_language(asked: str | None, model: ModelInfo) -> str | None:
    """Return the code that a request's language (code, English name or locale) stands for; None means: detect it.

    Raises UserError where it is no language of Whisper's, or none of the model's.
    """
    if not asked:
        return model.language
    language = code(asked)
    if language not in model.languages:
        if model.languages == {"en"}:
            raise UserError(f"'{model.name}' knows English only, not {NAMES[language]}", "use a multilingual model")
        near = suggestion(language, sorted(model.languages))
        raise UserError(f"'{model.name}' has no token for {NAMES[language]}", near)
    return language


def prepare(source: bytes | Path, language: str | None, model: ModelInfo, limits: AudioLimits) -> Prepared:
    """Decode audio, cut it where it is quiet and take log-mel features of each window. CPU-bound.

    Raises DataError as ``asr.audio.decode`` does.
    """
    waveform = decode(source, limits=limits)
    windows = [waveform[start:end] for start, end in split_at_quiet(waveform)]
    clips = [Clip(model.log_mel(window), language) for window in windows]
    return Prepared(clips, len(waveform) / SAMPLE_RATE)


def join(transcripts: Sequence[Transcript]) -> Joined:
    """Put the windows' texts together in order; languages written without spaces get none between windows either."""
    tokens: Counter[str | None] = Counter()
    for transcript in transcripts:
        tokens[transcript.language] += len(transcript.tokens)
    language = tokens.most_common(1)[0][0] if tokens else None
    space = "" if language in UNSPACED else " "
    return Joined(space.join(transcript.text for transcript in transcripts if transcript.text), language)
