"""Subject of the steps of `check`: each part is made once, however many steps need it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, PreTrainedTokenizerBase

from asr.audio.decode import SAMPLE_RATE
from asr.audio.limits import DEFAULT_LIMITS
from asr.audio.sandbox import decode_utterances
from asr.audio.silence import require_sound
from asr.data.segments import LabelledSegment, split
from asr.data.sources import SourceConfig, is_stream, rows
from asr.errors import DataError
from asr.io.cache import cache_root
from asr.models.checkpoint import Checkpoint
from asr.models.family import Family, SpeechModel, best_device, family_of, load_checkpoint
from asr.models.head import HeadSettings, InitialModel
from asr.models.processor import Processor
from asr.transcript import Task
from asr.utterance import Quarantined, Utterance
from train.config import TrainConfig
from train.corpus.validation import CorpusValidator
from train.dataloader.collate import collate
from train.dataloader.preprocess import prepare
from train.examples import MicroBatchSpec, PackedExample, processor_of
from train.run.initial import initial_model, known_transcripts

State = Literal["ok", "warning", "failed", "skipped"]

SAMPLE = 64  # clips that are decoded: so few tell whether text and audio belong together
LABELS = 256  # transcripts that are tokenised: the longest, and as many drawn from the rest
MAX_ROWS = 200_000  # read of a source of known length; of a stream, MAX_STREAMED
MAX_STREAMED = 256
_BATCH = 2


@dataclass(frozen=True)
class CheckOutcome:
    """Outcome of a step: ``failed`` ends in exit code 2, a ``warning`` does not; ``hint`` says what to do."""

    state: State
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Rows:
    """Rows read of a source: all of them if ``complete``."""

    utterances: list[Utterance]
    quarantined: list[Quarantined]
    complete: bool

    @property
    def count(self) -> int:
        return len(self.utterances) + len(self.quarantined)


@dataclass(frozen=True)
class Sampled:
    """Clips that could be decoded [16 kHz samples], and those that could not."""

    clips: list[tuple[Utterance, NDArray[np.float32]]]
    faults: list[Quarantined]


class Subject:
    """The data, the base and one batch of a run. Each may raise UserError when it is first asked for."""

    def __init__(self, config: TrainConfig, address: str | None = None) -> None:
        self.config, self.address = config, address

    @cached_property
    def parts(self) -> dict[str, Rows]:
        """Training rows by source, under the name of its key."""
        sources = self.config.data.sources
        if len(sources) == 1:
            return {"data.train": read(sources[0])}
        return {f"data.train[{number}]": read(source) for number, source in enumerate(sources)}

    @cached_property
    def training(self) -> Rows:
        """Training rows of all sources."""
        parts = self.parts.values()
        return Rows(
            [utterance for part in parts for utterance in part.utterances],
            [row for part in parts for row in part.quarantined],
            all(part.complete for part in parts),
        )

    @cached_property
    def held_out(self) -> dict[str, Rows]:
        """Rows of the validation and the retention set, as far as they are set."""
        data = self.config.data
        named = {"data.validation": data.validation, "data.retention": data.retention}
        return {key: read(source) for key, source in named.items() if source is not None}

    @property
    def has_new_vocabulary(self) -> bool:
        """True if the base gets a vocabulary that is made of the training transcripts."""
        return bool(self.initial.head) and self.config.ctc.target_language is None

    @property
    def has_known_transcripts(self) -> bool:
        """True if the training transcripts can be read as often as they are needed."""
        return known_transcripts(self.config) is not None

    @property
    def head_settings(self) -> HeadSettings:
        """The settings of a CTC head."""
        return self.config.ctc

    @property
    def scored(self) -> dict[str, list[Utterance]]:
        """Rows that are not trained on, by the key of their source."""
        return {key: rows.utterances for key, rows in self.held_out.items()}

    @cached_property
    def sampled(self) -> Sampled:
        """Some training clips, decoded."""
        sampled = Sampled([], [])
        utterances = spread(self.training.utterances, SAMPLE)
        for utterance, sound in zip(utterances, decode_utterances(utterances, DEFAULT_LIMITS), strict=True):
            try:
                if isinstance(sound, DataError):
                    raise sound
                self.pieces(utterance, len(sound) / SAMPLE_RATE)
                if utterance.text.strip():
                    require_sound(sound)
                sampled.clips.append((utterance, sound))
            except DataError as error:
                sampled.faults.append(Quarantined(utterance.id, error.reason, error.detail))
        return sampled

    @cached_property
    def initial(self) -> InitialModel:
        """The model that training starts from."""
        return initial_model(self.config)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of that model."""
        return self.initial.checkpoint()

    @property
    def base(self) -> str:
        """The base's name, as the configuration has it."""
        return self.config.base

    @property
    def folder(self) -> Path:
        """The base's folder."""
        return self.checkpoint.folder

    @property
    def family(self) -> Family:
        """The base's family."""
        return family_of(self.folder)

    @property
    def task(self) -> Task:
        """The task that the network is trained for."""
        return self.config.task

    @property
    def utterances(self) -> int:
        """The number of training rows."""
        return len(self.training.utterances)

    @property
    def max_quarantined_share(self) -> float:
        """The share of the training rows that may be unusable."""
        return self.config.data.max_quarantined_share

    @cached_property
    def processor(self) -> Processor:
        """The base's tokenizer and features."""
        return processor_of(self.initial)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's tokenizer."""
        return self.processor.tokenizer

    @cached_property
    def generation(self) -> GenerationConfig:
        """The base's generation config."""
        return GenerationConfig.from_pretrained(self.checkpoint.folder)

    def language(self, utterance: Utterance) -> str | None:
        """Return the language that an utterance is trained under."""
        return utterance.language or self.config.language

    def pieces(self, utterance: Utterance, length_s: float | None) -> list[Utterance]:
        """Return what is trained on of an utterance so long. Raises DataError where it goes into quarantine."""
        if (length_s or 0.0) <= self.processor.window_s:
            return [utterance]
        if self.config.data.long_clips == "quarantine":
            raise DataError("too_long", f"{length_s:.2f} s, over {self.processor.window_s:g} s")
        return split(replace(utterance, duration_s=length_s), self.processor.window_s)

    @cached_property
    def labels(self) -> list[tuple[Utterance, list[int]]]:
        """Label tokens of the longest transcripts and of some others, as far as training admits them."""
        return [(row, self._label(row)) for row in self._validated[0]]

    @cached_property
    def unlabelled(self) -> list[Quarantined]:
        """Of the same transcripts, those that training puts into quarantine."""
        return self._validated[1]

    @cached_property
    def _validated(self) -> tuple[list[Utterance], list[Quarantined]]:
        by_length = sorted(self.training.utterances, key=lambda utterance: len(utterance.text.encode()))
        chosen = [*by_length[-LABELS:], *spread(by_length[:-LABELS], LABELS)]
        quarantined: list[Quarantined] = []
        validator = CorpusValidator(self.config.preprocess(self.initial), self.config.data.long_clips)
        return [row.utterance for row in validator.validate(chosen, quarantined)], quarantined

    def _label(self, utterance: Utterance) -> list[int]:
        said = [LabelledSegment(0.0, utterance.duration_s or 0.0, utterance.text)]
        return self.processor.label(said, self.language(utterance), self.config.task)

    @property
    def shortest(self) -> list[tuple[Utterance, NDArray[np.float32]]]:
        """The two shortest of the decoded clips that have a label: a step on them costs least."""
        unusable = {row.id for row in self.unlabelled}
        most = round(self.processor.window_s * SAMPLE_RATE)
        usable = [clip for clip in self.sampled.clips if clip[0].id not in unusable and len(clip[1]) <= most]
        return sorted(usable, key=lambda clip: len(clip[1]))[:_BATCH]

    @cached_property
    def batch(self) -> dict[str, torch.Tensor]:
        """A small micro-batch of real clips as the network gets it: with packing, a window of two clips."""
        clips = self.shortest
        context_s = max((len(waveform) / SAMPLE_RATE for _, waveform in clips), default=1.0)
        examples = tuple(PackedExample((utterance,)) for utterance, _ in clips)
        if self.config.packing.window_s is not None:
            examples = (PackedExample(tuple(utterance for utterance, _ in clips), timestamps=True),)
        preprocess = self.config.preprocess(self.initial)
        return collate(prepare(MicroBatchSpec(examples, context_s), preprocess), self.processor)

    @cached_property
    def model(self) -> SpeechModel:
        """The base with its weights. The gradient step changes it, and so comes last."""
        return load_checkpoint(self.checkpoint, best_device())


def read(source: SourceConfig) -> Rows:
    """Read a source, or its beginning where it is a stream or very long. Raises UserError where it cannot be read."""
    most = MAX_STREAMED if is_stream(source) else MAX_ROWS
    found = list(islice(rows(source, cache_root()), most + 1))
    return Rows(
        [row for row in found[:most] if isinstance(row, Utterance)],
        [row for row in found[:most] if isinstance(row, Quarantined)],
        len(found) <= most,
    )


def spread(utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """Return at most ``count`` of them, the same ones each time, in their order."""
    if len(utterances) <= count:
        return list(utterances)
    chosen = sorted(random.Random(0).sample(range(len(utterances)), count))
    return [utterances[index] for index in chosen]
