"""Results of one checkpoint on one test set: all transcripts, the time taken, and the figures drawn from them."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from asr.audio.features import Context
from asr.errors import UserError
from asr.io.spreadsheet import cells
from asr.parsed import JsonObject
from asr.scoring.error_rates import Score, SilenceScore, Unit, UtteranceScore, score, score_silence, score_utterance
from asr.scoring.normalizer import Normaliser

_EMPTY_SHARE = 0.5


@dataclass(frozen=True)
class UtteranceResult:
    """Reference of one utterance of ``duration_s`` seconds, and a checkpoint's transcript of it."""

    id: str
    reference: str
    hypothesis: str
    duration_s: float


@dataclass(frozen=True)
class Evaluation:
    """The transcripts of one test set by one checkpoint, in one audio context, decoded in ``seconds`` of wall time.

    ``context`` is ``full`` where each clip was padded to Whisper's 30 s and ``short`` where it was not. ``language`` is
    a Whisper code, or None where the checkpoint detected it. Error rates raise UserError where there are no results.
    ``silence`` holds clips whose reference is empty. Words found there have a figure of their own: an error rate
    divides by the words of the references, so that it would depend on how much silence a test set happens to have.
    """

    checkpoint: str
    language: str | None
    context: Context
    results: list[UtteranceResult]
    seconds: float
    silence: list[UtteranceResult] = field(default_factory=list)

    @cached_property
    def scored(self) -> list[UtteranceScore]:
        """Normalised edits of each result, in the order of ``results``."""
        return [score_utterance(one.reference, one.hypothesis, "normalised", self.language) for one in self.results]

    @cached_property
    def wer(self) -> Score:
        """Normalised word error rate."""
        return self._rate("normalised", "word")

    @cached_property
    def wer_ortho(self) -> Score:
        """Orthographic word error rate: case and punctuation count."""
        return self._rate("orthographic", "word")

    @cached_property
    def cer(self) -> Score:
        """Normalised character error rate."""
        return self._rate("normalised", "character")

    def _rate(self, normaliser: Normaliser, unit: Unit) -> Score:
        references = [one.reference for one in self.results]
        return score(references, [one.hypothesis for one in self.results], normaliser, self.language, unit)

    @cached_property
    def on_silence(self) -> SilenceScore:
        """Words that were transcribed in clips whose reference is empty."""
        hypotheses = [one.hypothesis for one in self.silence]
        return score_silence(hypotheses, [one.duration_s for one in self.silence], self.language)

    @property
    def warnings(self) -> list[str]:
        """Warnings about the references as a whole: a table that is half filled looks like a set of silence."""
        empty, clips = sum(not one.reference.strip() for one in self.silence), len(self.results) + len(self.silence)
        if empty <= _EMPTY_SHARE * clips:
            return []
        return [
            f"{empty} of {clips} references are empty, which says that nobody speaks there: no error rate counts these "
            "clips; leave out the rows that nobody has transcribed"
        ]

    @property
    def audio_s(self) -> float:
        """Seconds of audio that were decoded, silence too."""
        return sum(one.duration_s for one in (*self.results, *self.silence))

    @property
    def speed(self) -> float:
        """Seconds of audio decoded in a second of wall time."""
        return self.audio_s / self.seconds

    def summary(self) -> JsonObject:
        """Return the figures, ready for JSON: rates are shares (0.11 is 11 %), each with its interval and counts.

        ``utterances`` is the number of those with words, of which alone the rates are; they are None without any.
        """
        rates = {"wer": self.wer, "wer_ortho": self.wer_ortho, "cer": self.cer} if self.results else {}
        on_silence = self.on_silence
        return {
            "checkpoint": self.checkpoint,
            "language": self.language,
            "context": self.context,
            "utterances": len(self.results),
            "audio_s": round(self.audio_s, 3),
            "seconds": round(self.seconds, 3),
            "speed": round(self.speed, 3),
            **{name: _figures(rates[name]) if rates else None for name in ("wer", "wer_ortho", "cer")},
            "silence": {**asdict(on_silence), "words_per_min": round(on_silence.words_per_min, 3)},
            "warnings": self.warnings,
        }

    def write_table(self, path: Path) -> None:
        """Write one row for each utterance as CSV in UTF-8, those without words last; ``wer`` is normalised.

        A text that a spreadsheet would take for a formula has ``'`` in front. Of an utterance without words ``wer`` is
        empty, and ``errors`` counts the words found.
        """
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["id", "duration_s", "wer", "errors", "reference_words", "reference", "hypothesis"])
            for one, scored in zip(self.results, self.scored, strict=True):
                words = scored.words
                figures = [f"{one.duration_s:.3f}", f"{words.rate:.4f}", words.errors, words.reference_length]
                table.writerow(cells([one.id, *figures, one.reference, one.hypothesis]))
            for one in self.silence:
                words = score_utterance(one.reference, one.hypothesis, "normalised", self.language).words
                figures = [f"{one.duration_s:.3f}", "", words.errors, 0]
                table.writerow(cells([one.id, *figures, one.reference, one.hypothesis]))

    def save(self, path: Path) -> None:
        """Write everything as JSON, the summary first for whoever opens the file; ``load`` reads it back."""
        document = {"summary": self.summary(), **asdict(self)}
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what ``save`` wrote; rates are counted anew. Raises UserError where the file is missing or another's."""
        try:
            return _READER.validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise UserError(f"{path}: not a saved evaluation: {place}: {first['msg']}".replace(": : ", ": ")) from None


def _figures(rate: Score) -> dict[str, float | int]:
    return {**rate.counts.as_metric("rate"), "low": rate.low, "high": rate.high}


_READER = TypeAdapter(Evaluation)
