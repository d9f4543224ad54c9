"""The order of training: a pure function of the utterances, the seed and the epoch.

An optimiser step is a fixed number of micro-batches, whatever the number of workers: workers only share them out. A run
that is resumed, even on more or fewer workers, goes on at the step where it stopped and meets each utterance once an
epoch. Steps are of like cost, and inside a micro-batch utterances are of like length, so little is padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from pydantic import Field

from asr.config import Section
from asr.errors import UserError
from asr.features import WINDOW_S


class PlanConfig(Section):
    """How utterances become micro-batches and steps."""

    max_clips: int = Field(8, ge=1)
    """Most utterances in a micro-batch."""
    max_audio_s: float = Field(60.0, ge=WINDOW_S)
    """Most seconds in a micro-batch, padding included: what its memory and time grow with."""
    micro_batches_per_step: int = Field(1, ge=1)
    """Micro-batches of an optimiser step, over all workers: a multiple of their number."""
    full_window_share: float = Field(0.05, ge=0.0, le=1.0)
    """Share of utterances, drawn anew each epoch, that are heard in Whisper's full 30 s. 1 trains as others do."""
    margin_s: float = Field(1.0, ge=0.0)
    """Silence behind an utterance, drawn anew each epoch between 0 and this, so that its length gives nothing away."""
    pool_clips: int = Field(256, ge=1)
    """Utterances sorted by length together: more pads less, fewer shuffles better."""


@dataclass(frozen=True)
class MicroBatch:
    """Utterances (their indices) that pass the network together, in a context of ``context_s`` seconds.

    An idle one, without utterances, fills up a step where there is nothing left to share out.
    """

    epoch: int
    utterances: tuple[int, ...]
    context_s: float


Step = tuple[MicroBatch, ...]


def plan_epoch(durations_s: Sequence[float], config: PlanConfig, seed: int, epoch: int) -> list[Step]:
    """Return the steps of one epoch, each of ``micro_batches_per_step`` micro-batches, with each utterance once.

    Raises UserError where there are fewer utterances than micro-batches in a step.
    """
    size = config.micro_batches_per_step
    if len(durations_s) < size:
        raise UserError(
            f"plan.micro_batches_per_step is {size}, but there are {len(durations_s)} utterances",
            "use fewer micro-batches in a step",
        )
    random = np.random.default_rng([seed, epoch])
    contexts = np.asarray(durations_s, dtype=float) + random.uniform(0.0, config.margin_s, len(durations_s))
    contexts[random.random(len(durations_s)) < config.full_window_share] = WINDOW_S
    contexts = np.minimum(contexts, WINDOW_S)
    order = random.permutation(len(durations_s))
    batches: list[list[int]] = []
    for start in range(0, len(order), config.pool_clips):
        pool = order[start : start + config.pool_clips]
        batches += _micro_batches(pool[np.argsort(contexts[pool], kind="stable")], contexts, config)
    _split_to_multiple(batches, size)
    planned = [
        MicroBatch(epoch, tuple(batch), max((float(contexts[i]) for i in batch), default=0.0)) for batch in batches
    ]
    planned.sort(key=lambda batch: len(batch.utterances) * batch.context_s)
    steps = [tuple(planned[start : start + size]) for start in range(0, len(planned), size)]
    return [steps[index] for index in random.permutation(len(steps))]


def plan(durations_s: Sequence[float], config: PlanConfig, seed: int, first_step: int = 0) -> Iterator[Step]:
    """Yield steps for ever, epoch after epoch, from step number ``first_step`` of the whole run on."""
    for epoch in count():
        steps = plan_epoch(durations_s, config, seed, epoch)
        yield from steps[first_step:]
        first_step = max(0, first_step - len(steps))


def _micro_batches(sorted_pool: np.ndarray, contexts: np.ndarray, config: PlanConfig) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in sorted_pool:
        # Sorted by context: the newcomer is the longest, and all are padded to it.
        if batch and (len(batch) == config.max_clips or contexts[index] * (len(batch) + 1) > config.max_audio_s):
            yield batch
            batch = []
        batch.append(int(index))
    if batch:
        yield batch


def _split_to_multiple(batches: list[list[int]], size: int) -> None:
    """Halve the largest micro-batches until their number is a multiple of ``size``: a lone clip leaves an idle half."""
    while len(batches) % size:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        batch = batches.pop(largest)
        batches += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
