"""What one checkpoint made of one test set: every transcript, how long it took, and the figures drawn from them."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from asr.errors import UserError
from asr.features import Context
from asr.scoring import Score, UtteranceScore, pool, score, score_utterance


@dataclass(frozen=True)
class UtteranceResult:
    """What was said in one utterance of ``duration_s`` seconds, and what a checkpoint heard."""

    id: str
    reference: str
    hypothesis: str
    duration_s: float


@dataclass(frozen=True)
class Evaluation:
    """The transcripts of one test set by one checkpoint, in one audio context, decoded in ``seconds`` of wall time.

    ``context`` is ``full`` where each clip was padded to Whisper's 30 s and ``short`` where it was not. ``language`` is
    a Whisper code, or None where the checkpoint detected it. Error rates raise UserError where there are no results.
    """

    checkpoint: str
    language: str | None
    context: Context
    results: list[UtteranceResult]
    seconds: float

    @cached_property
    def scored(self) -> list[UtteranceScore]:
        """Normalised edits of each result, in the order of ``results``."""
        return [score_utterance(one.reference, one.hypothesis, "normalised", self.language) for one in self.results]

    @cached_property
    def wer(self) -> Score:
        """Normalised word error rate."""
        return pool([one.words for one in self.scored])

    @cached_property
    def wer_ortho(self) -> Score:
        """Orthographic word error rate: case and punctuation count."""
        references = [one.reference for one in self.results]
        return score(references, [one.hypothesis for one in self.results], "orthographic", self.language)

    @cached_property
    def cer(self) -> Score:
        """Normalised character error rate."""
        return pool([one.characters for one in self.scored])

    @property
    def audio_s(self) -> float:
        """Seconds of speech that were decoded."""
        return sum(one.duration_s for one in self.results)

    @property
    def speed(self) -> float:
        """Seconds of speech decoded in a second of wall time."""
        return self.audio_s / self.seconds

    def summary(self) -> dict[str, Any]:
        """Return the figures, ready for JSON: rates are shares (0.11 is 11 %), each with its interval and counts."""
        return {
            "checkpoint": self.checkpoint,
            "language": self.language,
            "context": self.context,
            "utterances": len(self.results),
            "audio_s": round(self.audio_s, 3),
            "seconds": round(self.seconds, 3),
            "speed": round(self.speed, 3),
            "wer": _figures(self.wer),
            "wer_ortho": _figures(self.wer_ortho),
            "cer": _figures(self.cer),
        }

    def write_table(self, path: Path) -> None:
        """Write one row for each utterance as CSV in UTF-8, in the order of ``results``; ``wer`` is normalised."""
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["id", "duration_s", "wer", "errors", "reference_words", "reference", "hypothesis"])
            for one, scored in zip(self.results, self.scored, strict=True):
                words = scored.words
                figures = [f"{one.duration_s:.3f}", f"{words.rate:.4f}", words.errors, words.reference_length]
                table.writerow([one.id, *figures, one.reference, one.hypothesis])

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
