"""Validation of a corpus: rows are admitted, or quarantined by name with a reason, before any work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE
from asr.audio.limits import DEFAULT_LIMITS
from asr.audio.probe import Length
from asr.audio.sandbox import MOST_TASKS, decode_utterances, probes
from asr.data.batches import batches
from asr.data.segments import split
from asr.errors import DataError, UserError
from asr.models.processor import Processor, require_row
from asr.utterance import Quarantined, Utterance
from train.corpus.table import ValidatedUtterance
from train.data.config import LongClips
from train.data.prefetch import kept
from train.examples import MIN_AUDIO_S, PreprocessConfig
from train.sampling.packing import ExampleLimits

_BATCH = 1024
_GRACE_CLIPS = 100
_THREADS = min(8, 2 * (os.cpu_count() or 1))  # for headers that wait for a disk or a network


@dataclass(frozen=True)
class CorpusValidator:
    """Rules for rows: the limits of the checkpoint, and the treatment of clips over 30 s."""

    preprocess: PreprocessConfig
    long_clips: LongClips = "quarantine"

    @property
    def processor(self) -> Processor:
        """The checkpoint's, loaded once in a process."""
        return self.preprocess.processor

    @cached_property
    def limits(self) -> ExampleLimits:
        """The room of a label. Raises UserError for a language that is not known."""
        processor = self.processor
        around = processor.around(self.preprocess.language or "en", self.preprocess.task)
        return ExampleLimits(
            around,
            processor.max_label_tokens,
            processor.max_previous_tokens,
            processor.window_s,
            processor.has_times,
            processor.tokens_cost,
        )

    def require(self, language: str | None) -> None:
        """Raise UserError where the checkpoint cannot be told to speak a row's language, or the run's."""
        self.processor.require(language or self.preprocess.language, self.preprocess.task)

    def validate(
        self, rows: Iterable[Utterance | Quarantined], quarantined: list[Quarantined]
    ) -> Iterator[ValidatedUtterance]:
        """Yield what may be trained on, in order; the rest joins ``quarantined``.

        Reasons, beside those that the source gives: no_transcript, special_token, label_too_long, too_short, too_long,
        bad_segments, unknown_language, and where the length must be looked up, those of the decoder. Raises UserError
        as ``require``.
        """
        languages: set[str | None] = set()
        follows = True
        for batch in batches(rows, _BATCH):
            checked = [each for row in _with_lengths(batch, self.processor.window_s) for each in self._check(row)]
            texts = [self.processor.usable(row.text) for row in checked if isinstance(row, Utterance)]
            lengths = iter(self.processor.text_lengths(texts))
            for row in checked:
                if isinstance(row, Utterance):
                    if row.language not in languages:
                        self.require(row.language)
                        languages.add(row.language)
                    tokens = next(lengths)
                    if tokens + self.limits.around <= self.limits.most:
                        yield ValidatedUtterance(row, tokens, follows)
                        follows = True
                        continue
                    detail = f"{tokens + self.limits.around} tokens, a label has room for {self.limits.most}"
                    row = Quarantined(row.id, "label_too_long", detail)
                quarantined.append(row)
                follows = False

    def _check(self, row: Utterance | Quarantined) -> list[Utterance | Quarantined]:
        if isinstance(row, Quarantined):
            return [row]
        try:
            require_row(self.processor, row.language, self.preprocess.task)
            length_s = row.duration_s or 0.0
            window_s = self.processor.window_s
            if length_s <= window_s:
                self.processor.usable(row.text, length_s)
                if length_s < MIN_AUDIO_S:
                    raise DataError("too_short", f"{length_s:.3f} s, under {MIN_AUDIO_S:g} s")
                return [row]
            if self.long_clips == "quarantine":
                raise DataError("too_long", f"{length_s:.2f} s, over {window_s:g} s")
            pieces = split(row, window_s)
        except DataError as fault:
            return [Quarantined(row.id, fault.reason, fault.detail)]
        short = replace(self, long_clips="quarantine")  # a segment may still be too long
        return [each for piece in pieces for each in short._check(piece)]


def require_usable(quarantined: Sequence[Quarantined], met: int, max_share: float) -> None:
    """Raise UserError where too many of the utterances met so far could not be used."""
    # The first hundred may be unlucky: the share is taken of at least as many.
    if len(quarantined) > max_share * max(met, _GRACE_CLIPS):
        last = quarantined[-1]
        why = ": ".join(filter(None, (last.reason, last.id, last.detail)))
        raise UserError(
            f"{len(quarantined)} of {met} utterances could not be used, the last: {why}",
            "mend the data, or raise data.max_quarantined_share",
        )


def _with_lengths(rows: Sequence[Utterance | Quarantined], window_s: float) -> Iterator[Utterance | Quarantined]:
    """Yield the rows with the lengths of their stretches: what they say, or their files where they say nothing."""
    unknown = [row for row in rows if isinstance(row, Utterance) and not row.duration_s and row.end_s is None]
    measured = (
        row
        for some in kept(_THREADS).map(partial(_measured, window_s=window_s), batches(unknown, MOST_TASKS))
        for row in some
    )
    for row in rows:
        if isinstance(row, Quarantined) or row.duration_s:
            yield row
        elif row.end_s is not None:
            yield replace(row, duration_s=max(row.end_s - row.start_s, 0.0))
        else:
            yield next(measured)


def _measured(rows: Sequence[Utterance], window_s: float) -> list[Utterance | Quarantined]:
    """Return rows with their lengths as the containers' headers have them, or the audio where those say nothing."""
    told = [_told_s(row, length, window_s) for row, length in zip(rows, probes(rows), strict=True)]
    untold = [row for row, length_s in zip(rows, told, strict=True) if length_s is None]
    sounds = decode_utterances(untold, DEFAULT_LIMITS)
    found = (_decoded_s(next(sounds)) if length_s is None else length_s for length_s in told)
    return [
        Quarantined(row.id, length_s.reason, length_s.detail)
        if isinstance(length_s, DataError)
        else replace(row, duration_s=length_s)
        for row, length_s in zip(rows, found, strict=True)
    ]


def _told_s(row: Utterance, told: Length | DataError | None, window_s: float) -> float | DataError | None:
    if told is None or isinstance(told, DataError):
        return told
    length_s = max(told.seconds - row.start_s, 0.0)
    # A guess may plan a clip, but not refuse it.
    return length_s if told.certain or MIN_AUDIO_S <= length_s <= window_s else None


def _decoded_s(sound: NDArray[np.float32] | DataError) -> float | DataError:
    return sound if isinstance(sound, DataError) else len(sound) / SAMPLE_RATE
