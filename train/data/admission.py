"""What may be trained on: rows are admitted, or quarantined by name with a reason, before any work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Literal

from transformers import WhisperTokenizer

from asr.audio import SAMPLE_RATE
from asr.errors import DataError, UserError
from asr.features import WINDOW_S
from asr.labels import MAX_TOKENS, prompt_ids, spoken
from asr.sandbox import decode_utterance, probe
from asr.segments import split
from asr.utterance import Quarantined, Utterance
from train.data.ahead import kept
from train.data.utterances import Admitted
from train.feeding.tensors import MIN_AUDIO_S, Recipe, tools

LongClips = Literal["quarantine", "split"]
_BATCH = 1024
_GRACE_CLIPS = 100
_THREADS = min(8, 2 * (os.cpu_count() or 1))  # for headers that wait for a disk or a network


@dataclass(frozen=True)
class Admission:
    """The rules: what the checkpoint can take, and what is done with clips over 30 s."""

    recipe: Recipe
    long_clips: LongClips = "quarantine"

    @property
    def tokenizer(self) -> WhisperTokenizer:
        """The checkpoint's, loaded once in a process."""
        return tools(self.recipe.checkpoint)[0]

    @cached_property
    def around(self) -> int:
        """Tokens of a label beside its text: prompt and end. Raises UserError for a language that is not known."""
        return len(self._prompt(self.recipe.language or "en")) + 1

    def require(self, language: str | None) -> None:
        """Raise UserError where the checkpoint cannot be told to speak a row's language, or the run's."""
        self._prompt(language or self.recipe.language)

    def admit(self, rows: Iterable[Utterance | Quarantined], quarantined: list[Quarantined]) -> Iterator[Admitted]:
        """Yield what may be trained on, in order; the rest joins ``quarantined``.

        Reasons, beside those that the source gives: no_transcript, special_token, label_too_long, too_short, too_long,
        bad_segments, and where the length must be looked up, those of ``asr.audio``. Raises UserError as ``require``.
        """
        languages: set[str | None] = set()
        follows = True
        for batch in _batches(rows):
            wait = any(isinstance(row, Utterance) and not row.duration_s for row in batch)
            checked = [each for found in (kept(_THREADS).map if wait else map)(self._check, batch) for each in found]
            texts = [f" {row.text.strip()}" for row in checked if isinstance(row, Utterance)]
            lengths = iter(self._lengths(texts))
            for row in checked:
                if isinstance(row, Utterance):
                    if row.language not in languages:
                        self.require(row.language)
                        languages.add(row.language)
                    tokens = next(lengths)
                    if tokens + self.around <= MAX_TOKENS:
                        yield Admitted(row, tokens, follows)
                        follows = True
                        continue
                    detail = f"{tokens + self.around} tokens, the decoder has {MAX_TOKENS} positions"
                    row = Quarantined(row.id, "label_too_long", detail)
                quarantined.append(row)
                follows = False

    def _check(self, row: Utterance | Quarantined) -> list[Utterance | Quarantined]:
        if isinstance(row, Quarantined):
            return [row]
        try:
            known = row if row.duration_s else replace(row, duration_s=_measured_s(row))
            length_s = known.duration_s or 0.0
            if length_s <= WINDOW_S:
                spoken(known.text)
                if length_s < MIN_AUDIO_S:
                    raise DataError("too_short", f"{length_s:.3f} s, under {MIN_AUDIO_S:g} s")
                return [known]
            if self.long_clips == "quarantine":
                raise DataError("too_long", f"{length_s:.2f} s, over {WINDOW_S:g} s")
            pieces = split(known, WINDOW_S)
        except DataError as fault:
            return [Quarantined(row.id, fault.reason, fault.detail)]
        short = replace(self, long_clips="quarantine")  # a segment may still be too long
        return [each for piece in pieces for each in short._check(piece)]

    def _lengths(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False).input_ids] if texts else []

    def _prompt(self, language: str | None) -> list[int]:
        return prompt_ids(self.tokenizer, language, self.recipe.task)


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


def _measured_s(row: Utterance) -> float:
    """Return a stretch's length as its container's header has it, or as its audio has where that says nothing."""
    if row.end_s is not None:
        return max(row.end_s - row.start_s, 0.0)
    told = probe(row.audio, choice=row.sound)
    if told is not None:
        length_s = max(told.seconds - row.start_s, 0.0)
        if told.certain or MIN_AUDIO_S <= length_s <= WINDOW_S:  # a guess may plan a clip, but not refuse it
            return length_s
    return len(decode_utterance(row)) / SAMPLE_RATE


def _batches(rows: Iterable[Utterance | Quarantined]) -> Iterator[list[Utterance | Quarantined]]:
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        yield batch
