"""Several models' results on the same utterances: rates, casing, cost, and whether their differences are real."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from asr.io import storage
from asr.io.spreadsheet import cells
from asr.naming import short_names
from asr.parsed import JsonObject
from asr.quarantine import by_reason
from asr.scoring.bootstrap import paired_interval
from asr.scoring.disagreement import Disagreement, SpelledDifferently, disagreements, spelled_differently
from asr.scoring.edits import EditCounts
from asr.scoring.evaluation import Evaluation
from asr.scoring.orthography import Orthography, score_orthography
from asr.utterance import Quarantined

TOLD = 20
"""Utterances and spellings that the summary tells of."""


@dataclass(frozen=True)
class Measured:
    """An evaluation, and what it took.

    ``digest`` is ``sha256:`` of a checkpoint's weights; of an artifact, of its card and all that it is decoded by.
    ``evaluation.seconds`` is the time for features and decoding, of which ``features_s`` is for the features; audio
    files were decoded in ``audio_decoding_s`` besides. ``peak_bytes`` is the most memory that the model's own process
    held while it did so (weights, libraries and all), ``peak_gpu_bytes`` the most of a GPU.
    """

    evaluation: Evaluation
    digest: str
    family: str
    parameters: int
    weights_bytes: int
    peak_bytes: int
    peak_gpu_bytes: int | None
    device: str
    features_s: float
    audio_decoding_s: float

    @property
    def real_time_factor(self) -> float:
        """Seconds for a second of audio."""
        return self.evaluation.seconds / self.evaluation.audio_s

    @cached_property
    def orthography(self) -> Orthography:
        """Casing and punctuation."""
        results = self.evaluation.results
        texts = [one.reference for one in results], [one.hypothesis for one in results]
        return score_orthography(*texts, self.evaluation.language)

    def save(self, path: Path) -> None:
        """Write everything as JSON; the file appears whole or not at all."""
        with storage.whole(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Measured | None:
        """Read what ``save`` wrote; None where there is no such file, or it is another's."""
        try:
            return _READER.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None


@dataclass(frozen=True)
class RateDifference:
    """The word error rate of ``first`` minus that of ``second``, with its 95 % interval over the utterances."""

    first: str
    second: str
    difference: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Return whether the interval says which one is better."""
        return self.low > 0 or self.high < 0

    @property
    def finding(self) -> str:
        """Return in words which one is better."""
        if not self.is_certain:
            return f"{self.first} and {self.second}: too close to tell apart on these utterances"
        better, worse = (self.second, self.first) if self.difference > 0 else (self.first, self.second)
        return f"{better} makes fewer errors than {worse}"


@dataclass(frozen=True)
class ModelComparison:
    """Measurements of models on the same utterances in the same order, and the rows that are in none of them.

    Raises ValueError where the utterances differ.
    """

    models: list[Measured]
    quarantined: list[Quarantined]

    def __post_init__(self) -> None:
        """Refuse results of different test sets: no figure would mean anything."""
        sets = {tuple((row.id, row.reference) for row in one.evaluation.results) for one in self.models}
        if len(sets) != 1:
            raise ValueError(f"{len(sets)} test sets were compared as one")

    @cached_property
    def names(self) -> list[str]:
        """Short names of the models, no two alike: with the context, or numbered, where that is needed."""
        checkpoints = [one.evaluation.checkpoint for one in self.models]
        short = short_names(checkpoints)
        contexts = {name: {one.evaluation.context for one in self._of(name)} for name in checkpoints}
        names = [
            short[name] + (f", {one.evaluation.context}" if len(contexts[name]) > 1 else "")
            for name, one in zip(checkpoints, self.models, strict=True)
        ]
        counts, met = Counter(names), Counter[str]()
        numbered = []
        for name in names:
            met[name] += 1
            numbered.append(f"{name} ({met[name]})" if counts[name] > 1 else name)
        return numbered

    def _of(self, checkpoint: str) -> list[Measured]:
        return [one for one in self.models if one.evaluation.checkpoint == checkpoint]

    @property
    def first(self) -> Evaluation:
        """The first model's evaluation, which has the utterances of all."""
        return self.models[0].evaluation

    @cached_property
    def hypotheses(self) -> list[list[str]]:
        """Transcripts of each model, in the order of the utterances with words."""
        return [[one.hypothesis for one in each.evaluation.results] for each in self.models]

    @cached_property
    def differences(self) -> list[RateDifference]:
        """The differences of all pairs, in the order of the models."""
        counts = [[one.words for one in each.evaluation.scored] for each in self.models]
        rates = [sum(each, EditCounts()).rate for each in counts]
        return [
            RateDifference(
                self.names[one],
                self.names[other],
                rates[one] - rates[other],
                *paired_interval(counts[one], counts[other]),
            )
            for one, other in combinations(range(len(self.models)), 2)
            if self.first.results
        ]

    @cached_property
    def disagreements(self) -> list[Disagreement]:
        """The utterances on which the models differ, the worst first."""
        return disagreements(self.hypotheses, self.first.language)

    @cached_property
    def spellings(self) -> list[SpelledDifferently]:
        """The words that the models spell differently, the most frequent first."""
        references = [one.reference for one in self.first.results]
        return spelled_differently(references, self.hypotheses, self.first.language)

    def summary(self) -> JsonObject:
        """Return the figures, ready for JSON: rates and shares are shares (0.11 is 11 %), with intervals and counts."""
        return {
            "utterances": len(self.first.results),
            "silence": len(self.first.silence),
            "audio_s": round(self.first.audio_s, 3),
            "quarantined": len(self.quarantined),
            "quarantine": [asdict(reason) for reason in by_reason(self.quarantined)],
            "models": [_figures(name, one) for name, one in zip(self.names, self.models, strict=True)],
            "differences": [
                {**asdict(one), "certain": one.is_certain, "finding": one.finding} for one in self.differences
            ],
            "disagreements": {
                "utterances": len(self.disagreements),
                "in_words": sum(one.words > 0 for one in self.disagreements),
                "worst": [self._told(one) for one in self.disagreements[:TOLD]],
            },
            "spelled_differently": [
                {"reference": one.reference, **dict(zip(self.names, one.heard, strict=True)), "times": one.times}
                for one in self.spellings[:TOLD]
            ],
        }

    def _told(self, one: Disagreement) -> JsonObject:
        result = self.first.results[one.place]
        texts = [each[one.place] for each in self.hypotheses]
        return {
            "id": result.id,
            "duration_s": round(result.duration_s, 3),
            "words_apart": one.words,
            "reference": result.reference,
            "hypotheses": dict(zip(self.names, texts, strict=True)),
        }

    def save(self, path: Path, details: JsonObject) -> None:
        """Write the summary, ``details`` and all transcripts as JSON."""
        document = {
            **details,
            **self.summary(),
            "results": {name: asdict(one) for name, one in zip(self.names, self.models, strict=True)},
        }
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def write_table(self, path: Path) -> None:
        """Write a row for each utterance as CSV in UTF-8, as ``Evaluation.write_table`` does: those with words first.

        ``words_apart`` is how many words the two models that differ most differ in. Each model has its errors and
        transcript.
        """
        apart = {one.place: one.words for one in self.disagreements}
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            each = [f"{what}, {name}" for name in self.names for what in ("errors", "hypothesis")]
            table.writerow(cells(["id", "duration_s", "reference_words", "words_apart", "reference", *each]))
            for place, one in enumerate(self.first.results):
                scored = [model.evaluation.scored[place].words for model in self.models]
                told = [
                    cell
                    for words, texts in zip(scored, self.hypotheses, strict=True)
                    for cell in (words.errors, texts[place])
                ]
                row = [one.id, f"{one.duration_s:.3f}", scored[0].reference_length, apart.get(place, 0), one.reference]
                table.writerow(cells([*row, *told]))
            for place, one in enumerate(self.first.silence):
                heard = [model.evaluation.silence[place].hypothesis for model in self.models]
                told = [cell for text in heard for cell in ("", text)]
                table.writerow(cells([one.id, f"{one.duration_s:.3f}", 0, "", one.reference, *told]))


def _figures(name: str, one: Measured) -> JsonObject:
    orthography = one.orthography
    return {
        "name": name,
        **one.evaluation.summary(),
        "digest": one.digest,
        "family": one.family,
        "casing": orthography.casing.as_json() if orthography.casing else None,
        "punctuation": orthography.punctuation.as_json() if orthography.punctuation else None,
        "real_time_factor": round(one.real_time_factor, 5),
        "features_s": round(one.features_s, 3),
        "audio_decoding_s": round(one.audio_decoding_s, 3),
        "peak_bytes": one.peak_bytes,
        "peak_gpu_bytes": one.peak_gpu_bytes,
        "weights_bytes": one.weights_bytes,
        "parameters": one.parameters,
        "device": one.device,
    }


_READER = TypeAdapter(Measured)
