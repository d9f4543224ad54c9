"""A test set for several models: the utterances that each of them can take, and why others are left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asr.audio.decode import SAMPLE_RATE
from asr.errors import DataError, UserError
from asr.models.letters import require_letters
from asr.utterance import Quarantined, Utterance
from train import console
from train.evaluation.candidate import Candidate
from train.evaluation.offline import usable_waveforms


@dataclass(frozen=True)
class CommonClip:
    """An utterance that every model takes."""

    utterance: Utterance
    duration_s: float


@dataclass(frozen=True)
class CommonSet:
    """The clips that every model takes, the longest first, and the rows that one of them does not.

    ``window_s`` is the shortest of the models' windows. ``fingerprint`` changes with every transcript, language and
    sample.
    """

    clips: list[CommonClip]
    quarantined: list[Quarantined]
    window_s: float
    fingerprint: str


def common_set(
    utterances: Sequence[Utterance],
    models: Sequence[Candidate],
    language: str | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CommonSet:
    """Decode all utterances once, and keep those that every model takes. ``language`` is for rows that name none.

    Raises UserError where none is left, and where one of the models lacks the letters of most.
    """
    for model in models:
        if lacking := require_letters(model.processor, utterances, model.name):
            console.say(lacking)
    quarantined: list[Quarantined] = []
    spoken = []
    for utterance in utterances:
        refused = _refusal(utterance.language or language, models)
        if refused:
            quarantined.append(Quarantined(utterance.id, "unsupported_language", refused))
        else:
            spoken.append(utterance)
    narrowest = min(models, key=lambda one: one.processor.window_s)
    window_s = narrowest.processor.window_s
    wider = any(one.processor.window_s > window_s for one in models)
    whose = f"; {narrowest.name} takes no longer one" if wider else ""
    clips: list[CommonClip] = []
    told = hashlib.sha256()
    for done, (utterance, waveform) in enumerate(usable_waveforms(spoken, window_s), start=1):
        if isinstance(waveform, DataError):
            detail = waveform.detail + whose * (waveform.reason == "too_long")
            quarantined.append(Quarantined(utterance.id, waveform.reason, detail))
        else:
            clips.append(CommonClip(utterance, len(waveform) / SAMPLE_RATE))
            row = [utterance.id, utterance.text, utterance.language or language]
            told.update(json.dumps(row).encode() + hashlib.sha256(waveform.tobytes()).digest())
        if on_progress is not None:
            on_progress(done, len(spoken))
    if not clips:
        first = f", the first: {quarantined[0].id}: {quarantined[0].reason}: {quarantined[0].detail}"
        raise UserError(f"none of {len(utterances)} utterances can be compared{first}")
    clips.sort(key=lambda clip: clip.duration_s, reverse=True)  # as in `evaluate`; and the peak of memory comes first
    return CommonSet(clips, quarantined, window_s, told.hexdigest())


def _refusal(language: str | None, models: Sequence[Candidate]) -> str:
    """Return why one of the models cannot decode a language, "" where all can."""
    for model in models:
        spoken = language or model.language
        try:
            if spoken is not None:
                model.processor.require(spoken, "transcribe")
        except UserError as error:
            return f"{model.name}: {error.message}"
    return ""
