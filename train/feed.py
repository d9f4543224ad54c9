"""The trainer's data loader: this worker's share of the plan, from the step where the run stands."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch.utils.data import IterableDataset

from asr.errors import UserError
from asr.utterance import Utterance
from train.collate import collate
from train.plan import MicroBatch, PlanConfig, plan
from train.stream import Recipe, stream


@dataclass
class Tally:
    """What a worker has been fed so far.

    ``wait_s`` is the time it stood still for want of data, after the first row: Ray Data takes seconds to start.
    """

    utterances: int = 0
    audio_s: float = 0.0
    wait_s: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Share:
    """Which micro-batches of each step are this worker's: every ``world_size``-th from ``rank`` on."""

    rank: int
    world_size: int

    def of(self, step: Sequence[MicroBatch]) -> Sequence[MicroBatch]:
        """Return this worker's micro-batches of a step."""
        return step[self.rank :: self.world_size]


class Feed(IterableDataset):
    """Yields the collated micro-batches of one worker, and keeps the tally."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        rows: Sequence[MicroBatch],
        recipe: Recipe,
        pad_token_id: int,
        max_faulty_share: float,
        tasks: int = 1,
    ) -> None:
        self.tally = Tally()
        self._utterances, self._rows, self._recipe = utterances, rows, recipe
        self._pad_token_id = pad_token_id
        self._max_faulty_share = max_faulty_share
        self._tasks = tasks

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rows = iter(stream(self._utterances, self._rows, self._recipe, self._tasks))
        for planned in self._rows:
            started = time.monotonic()
            row = next(rows)
            if self.tally.utterances:
                self.tally.wait_s += time.monotonic() - started
            self.tally.utterances += len(planned.utterances)
            self.tally.audio_s += float(row["audio_s"])
            self.tally.faults += [str(fault) for fault in row["faults"]]
            self._stop_if_faulty()
            yield collate(row, self._pad_token_id)

    def _stop_if_faulty(self) -> None:
        faults, met = self.tally.faults, self.tally.utterances
        # The first hundred may be unlucky: the share is taken of at least as many.
        if len(faults) > self._max_faulty_share * max(met, 100):
            raise UserError(
                f"{len(faults)} of {met} utterances could not be used, the last: {faults[-1]}",
                "mend the data, or raise data.max_faulty_share",
            )


def rows_from(
    durations_s: Sequence[float], config: PlanConfig, seed: int, steps: range, share: Share
) -> list[MicroBatch]:
    """Return a worker's micro-batches of the optimiser steps in ``steps``, in order."""
    planned = islice(plan(durations_s, config, seed, steps.start), len(steps))
    return [row for step in planned for row in share.of(step)]
