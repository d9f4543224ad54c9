"""Ray Data on its way from plan rows to ready tensors, ahead of the trainer and within a bound on memory.

Legend: B utterances of a micro-batch, M mel bins, T frames of all of them end to end, L label tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict, cast

import numpy as np
import ray.data
from ray.data import ExecutionResources
from transformers import WhisperTokenizer

from asr.audio import SAMPLE_RATE, AudioLimits, decode
from asr.checkpoint import find_checkpoint
from asr.errors import DataError
from asr.features import WINDOW_S, LogMel
from asr.labels import IGNORED, Task, label_ids, prompt_ids
from asr.model import load_processor
from asr.utterance import Utterance
from train.plan import MicroBatch

# Fractions of a CPU, so that on two cores preparation is scheduled beside the workers; it needs 1 % of a step's time.
_TASK_CPUS = 0.25
_OBJECT_STORE_BYTES = 128 * 1024**2
_PREFETCH = 4
_ROWS_PER_TASK = 4
_LIMITS = AudioLimits(max_audio_s=WINDOW_S)  # what Whisper hears at once


@dataclass(frozen=True)
class Recipe:
    """What turns an utterance into features and labels, beside the utterance itself."""

    checkpoint: str
    language: str | None
    task: Task


class TensorRow(TypedDict):
    """A micro-batch as it leaves Ray Data. Features are the clips' own frames: padding waits for the trainer.

    features_MT   float16 [M, T], the clips end to end
    frames_B      int64 [B], the frames of each
    labels_BL     int64 [B, L], padded with -100
    context_s     seconds the network will hear
    audio_s       seconds of speech
    faults        ``reason: id: detail`` of utterances that could not be used
    """

    features_MT: np.ndarray
    frames_B: np.ndarray
    labels_BL: np.ndarray
    context_s: float
    audio_s: float
    faults: list[str]


@dataclass(frozen=True)
class _Order:
    """One micro-batch on its way into Ray Data: self-contained, so that any node can prepare it."""

    utterances: tuple[Utterance, ...]
    context_s: float


def stream(
    utterances: Sequence[Utterance], rows: Sequence[MicroBatch], recipe: Recipe, tasks: int = 1
) -> Iterator[TensorRow]:
    """Yield ``rows`` in order as tensors, made by so many Ray Data tasks, a few rows ahead of whoever iterates."""
    orders = [_Order(tuple(utterances[i] for i in row.utterances), row.context_s) for row in rows]
    dataset = ray.data.from_items(
        [{"order": order} for order in orders], override_num_blocks=-(-len(orders) // _ROWS_PER_TASK)
    )
    dataset.context.enable_progress_bars = False  # the run's own progress says more
    dataset.context.execution_options.preserve_order = True
    dataset.context.execution_options.resource_limits = ExecutionResources(object_store_memory=_OBJECT_STORE_BYTES)
    dataset = dataset.map(_prepare, fn_kwargs={"recipe": recipe}, num_cpus=_TASK_CPUS, concurrency=tasks)
    for batch in dataset.iterator().iter_batches(batch_size=1, prefetch_batches=_PREFETCH, batch_format="numpy"):
        yield cast(TensorRow, {name: column[0] for name, column in batch.items()})


def _prepare(row: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    order: _Order = row["order"]
    return dict(prepare(order.utterances, order.context_s, recipe))


def prepare(utterances: Sequence[Utterance], context_s: float, recipe: Recipe) -> TensorRow:
    """Decode one micro-batch to tensors. An utterance that cannot be used becomes a fault, never an error."""
    features: list[np.ndarray] = []
    labels: list[list[int]] = []
    faults: list[str] = []
    audio_s = 0.0
    tokenizer, log_mel = _tools(recipe.checkpoint)
    for utterance in utterances:
        try:
            waveform = decode(utterance.audio, start_s=utterance.start_s, end_s=utterance.end_s, limits=_LIMITS)
            prompt = prompt_ids(tokenizer, utterance.language or recipe.language, recipe.task)
            label = label_ids(tokenizer, utterance.text, prompt)
            features.append(log_mel(waveform))
            labels.append(label)
            audio_s += len(waveform) / SAMPLE_RATE
        except DataError as fault:
            faults.append(": ".join(filter(None, (fault.reason, utterance.id, fault.detail))))
    if not features:  # the step still needs a batch on every worker: silence that no token is scored on
        features, labels = [log_mel(np.zeros(SAMPLE_RATE, dtype=np.float32))], [[IGNORED, IGNORED]]
    return TensorRow(
        features_MT=np.concatenate(features, axis=1),
        frames_B=np.array([clip.shape[1] for clip in features]),
        labels_BL=np.array([label + [IGNORED] * (max(map(len, labels)) - len(label)) for label in labels]),
        context_s=context_s,
        audio_s=audio_s,
        faults=faults,
    )


@cache
def _tools(checkpoint: str) -> tuple[WhisperTokenizer, LogMel]:
    return load_processor(find_checkpoint(checkpoint))
