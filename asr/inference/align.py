"""Forced alignment of labelled speech: the words of clips with their times, and long recordings cut into segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from operator import not_

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE, AudioLimits
from asr.audio.sandbox import decode_utterances
from asr.audio.silence import require_sound
from asr.data.batches import batches
from asr.data.segments import LabelledSegment, piece_of
from asr.errors import DataError
from asr.inference.pipeline import DecodedAudio, open_sound
from asr.models.alignment import AlignmentRequest, LongAlignment, SegmentLimits, SoundWindow
from asr.models.family import SpeechModel
from asr.transcript import Word
from asr.utterance import Quarantined, Utterance

LONG_LIMITS = AudioLimits(max_bytes=8 * 1024**3, max_audio_s=6 * 3600.0, max_source_samples=6_000_000_000)
"""Limits of a recording that is cut into segments."""

_CLIPS = 16  # of at most 30 s, whose samples and features are in memory


@dataclass(frozen=True)
class Aligned:
    """The rows that a row has become, and what of it could not be used; ``sound_s`` seconds were looked at.

    ``is_long``: it was over the model's window.

    A clip is one row with ``words`` in its ``meta``: a list of objects with ``start`` and ``end`` in seconds of the
    clip, ``text`` and ``probability``. A long recording is a row for each segment, with its ``confidence``.
    """

    source: Utterance
    rows: tuple[Utterance, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    sound_s: float = 0.0
    is_long: bool = False


def align(model: SpeechModel, utterances: Iterable[Utterance], limits: SegmentLimits) -> Iterator[Aligned]:
    """Yield what each utterance has become, in no certain order: those over the model's window are cut.

    Rows that cannot be aligned are quarantined for what decoding raises, ``silent``, ``no_transcript`` and what
    ``Family.align`` and ``Family.align_long`` give. Raises UserError where the model does not know a clip's language.
    """
    for batch in batches(utterances, _CLIPS):
        spoken = [any(map(str.isalnum, utterance.text)) for utterance in batch]
        for utterance in compress(batch, map(not_, spoken)):
            yield _refused(utterance, DataError("no_transcript"))
        yield from _batch(model, list(compress(batch, spoken)), limits)


def _refused(utterance: Utterance, fault: DataError) -> Aligned:
    return Aligned(utterance, quarantined=(Quarantined(utterance.id, fault.reason, fault.detail),))


def _batch(model: SpeechModel, utterances: Sequence[Utterance], limits: SegmentLimits) -> Iterator[Aligned]:
    """Align the short ones together; decoding tells which ones are long, whatever their rows say."""
    clips: list[tuple[Utterance, NDArray[np.float32]]] = []
    longs: list[Utterance] = []
    sounds = decode_utterances(utterances, AudioLimits(max_audio_s=model.processor.window_s))
    for utterance, sound in zip(utterances, sounds, strict=True):
        if isinstance(sound, DataError):
            if _may_be_long(sound):
                longs.append(utterance)
            else:
                yield _refused(utterance, sound)
            continue
        try:
            require_sound(sound)
            clips.append((utterance, sound))
        except DataError as fault:
            yield _refused(utterance, fault)
    yield from _aligned_clips(model, clips)
    for utterance in longs:
        try:
            yield _cut(model, utterance, limits)
        except DataError as fault:
            yield _refused(utterance, fault)


def _may_be_long(fault: DataError) -> bool:
    """Return whether decoding within the limits of a clip failed for these limits."""
    return fault.reason in ("too_long", "too_large")


def _aligned_clips(model: SpeechModel, clips: Sequence[tuple[Utterance, NDArray[np.float32]]]) -> Iterator[Aligned]:
    requests = [
        AlignmentRequest(model.features(waveform), utterance.text, utterance.language) for utterance, waveform in clips
    ]
    found = model.family.align(model, requests) if requests else []
    for (utterance, waveform), words in zip(clips, found, strict=True):
        if isinstance(words, DataError):
            yield _refused(utterance, words)
            continue
        duration_s = len(waveform) / SAMPLE_RATE
        told = [_word(word, duration_s) for word in words]
        row = replace(utterance, duration_s=round(duration_s, 4), meta={**utterance.meta, "words": told})
        yield Aligned(utterance, (row,), sound_s=duration_s)


def _word(word: Word, duration_s: float) -> dict[str, object]:
    start_s, end_s = min(word.start_s, duration_s), min(word.end_s, duration_s)
    return {
        "start": round(start_s, 3),
        "end": round(end_s, 3),
        "text": word.text.strip(),
        "probability": round(word.probability, 4),
    }


def _cut(model: SpeechModel, utterance: Utterance, limits: SegmentLimits) -> Aligned:
    sound = _Sound(model, utterance)
    found = model.family.align_long(model, sound.windows(), utterance.text, limits)
    rows = []
    for number, one in enumerate(found.segments):
        row = piece_of(utterance, number, [LabelledSegment(one.start_s, one.end_s, one.text)])
        rows.append(replace(row, meta={**row.meta, "confidence": round(one.confidence, 3)}))
    return Aligned(utterance, tuple(rows), tuple(_left_out(utterance, found)), sound.duration_s, is_long=True)


class _Sound:
    """A recording that is decoded when its first window is asked for, and forgotten window by window."""

    def __init__(self, model: SpeechModel, utterance: Utterance) -> None:
        self._model, self._utterance = model, utterance
        self.duration_s = 0.0

    def windows(self) -> Iterator[SoundWindow]:
        utterance = self._utterance
        between_s = (utterance.start_s, utterance.end_s)
        sound: DecodedAudio = open_sound(utterance.audio, LONG_LIMITS, choice=utterance.sound, between_s=between_s)
        self.duration_s = sound.duration_s
        for window in sound.windows:
            features = self._model.features(sound.waveform[window.start : window.end])
            sound.forget(window.end)
            yield SoundWindow(window.start_s, window.end_s, features)


def _left_out(utterance: Utterance, found: LongAlignment) -> Iterator[Quarantined]:
    """Yield the parts of a recording's text that are in no segment, by the characters that they are."""
    for part in found.left_out:
        yield Quarantined(f"{utterance.id}[{part.start}:{part.end}]", part.reason, part.detail)
