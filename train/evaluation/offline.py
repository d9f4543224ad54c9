"""The word error rate of any checkpoint or artifact on a manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE, AudioLimits
from asr.audio.features import Context
from asr.audio.sandbox import decode_utterances
from asr.audio.silence import require_sound
from asr.data.batches import batches
from asr.errors import DataError, UserError
from asr.models.family import SpeechModel
from asr.models.processor import require_row
from asr.scoring.error_rates import has_words
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.transcript import DecodingRequest
from asr.utterance import Quarantined, Utterance

# Clips between two reports of progress: sorted by length, they fill two batches of like context.
_CHUNK = 32


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, and the utterances that could not take part in it."""

    evaluation: Evaluation
    quarantined: list[Quarantined]


def evaluate(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    context: Context | None,
    language: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    batch_clips: int = 16,
) -> Evaluated:
    """Transcribe ``utterances`` and score them; those without words are transcribed too, and counted apart.

    ``context`` None is the model's own. ``language`` is for those that name none; without either, the artifact's
    language holds, and at last the model detects it. Of rows with the same id the first counts. ``on_progress`` is
    called with (clips done, clips in all).
    Raises UserError where no clip is usable, and for a ``language`` that the model does not know.
    """
    context = context or model.context
    if language is not None and not all(utterance.language for utterance in utterances):
        model.processor.require(language, "transcribe")
    usable: list[tuple[Utterance, DecodingRequest, float]] = []
    quarantined: list[Quarantined] = []
    for utterance, waveform in usable_waveforms(utterances, model.processor.window_s):
        try:
            if isinstance(waveform, DataError):
                raise waveform
            require_row(model.processor, utterance.language, "transcribe")
        except DataError as fault:
            quarantined.append(Quarantined(utterance.id, fault.reason, fault.detail))
            continue
        clip = DecodingRequest(model.features(waveform), utterance.language or language or model.language)
        usable.append((utterance, clip, len(waveform) / SAMPLE_RATE))
    if not usable:
        told = (f", the first: {row.id}: {DataError(row.reason, row.detail)}" for row in quarantined)
        first = next(told, "")
        raise UserError(f"none of {len(utterances)} utterances can be evaluated{first}")
    usable.sort(key=lambda row: row[2], reverse=True)  # the slowest first, so that time left is not promised too low
    started = time.perf_counter()
    results: list[UtteranceResult] = []
    silence: list[UtteranceResult] = []
    for start in range(0, len(usable), _CHUNK):
        chunk = usable[start : start + _CHUNK]
        transcripts = model.transcribe([clip for _, clip, _ in chunk], context, batch_clips)
        for (utterance, _, duration_s), transcript in zip(chunk, transcripts, strict=True):
            found = UtteranceResult(utterance.id, utterance.text, transcript.text, duration_s)
            (results if has_words(utterance.text) else silence).append(found)
        if on_progress is not None:
            on_progress(len(results) + len(silence), len(usable))
    seconds = time.perf_counter() - started
    evaluation = Evaluation(model.name, language or model.language, context, results, seconds, silence)
    return Evaluated(evaluation, quarantined)


def usable_waveforms(
    utterances: Sequence[Utterance], window_s: float
) -> Iterator[tuple[Utterance, NDArray[np.float32] | DataError]]:
    """Yield each utterance with its waveform [samples], or with the reason why it cannot be evaluated.

    That is what decoding raises, ``too_long`` over ``window_s``; ``silent`` where the reference has words; and
    ``duplicate_id`` for all but the first of an id.
    """
    ids: set[str] = set()
    for batch in batches(utterances):
        first = []
        for utterance in batch:
            first.append(utterance.id not in ids)
            ids.add(utterance.id)
        sounds = decode_utterances(list(compress(batch, first)), AudioLimits(max_audio_s=window_s))
        for utterance, is_first in zip(batch, first, strict=True):
            repeated = DataError("duplicate_id", "an earlier row has this id")
            yield utterance, _usable(utterance, next(sounds)) if is_first else repeated


def _usable(utterance: Utterance, sound: NDArray[np.float32] | DataError) -> NDArray[np.float32] | DataError:
    try:
        if not isinstance(sound, DataError) and has_words(utterance.text):  # silent audio has no words
            require_sound(sound)
    except DataError as error:
        return error
    return sound
