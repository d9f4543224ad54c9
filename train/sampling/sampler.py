"""Sampler of a run: settings its order depends on beside its utterances, and the steps of an epoch that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from train.augmentation.augment import Augmentation, speeds
from train.sampling.batching import BatchingConfig, Epoch, plan_epoch
from train.sampling.mixing import Runs, shuffled
from train.sampling.packing import ExampleLimits, Packing, UtteranceColumns, items, windows


@dataclass(frozen=True)
class Ordering:
    """Settings that determine the order of training, and the limits of a label."""

    batching: BatchingConfig
    packing: Packing
    augment: Augmentation
    seed: int
    limits: ExampleLimits

    def runs(self, columns: UtteranceColumns, source: int, number: int) -> Runs:
        """Return pass ``number`` over a source: all of its utterances, alone or in windows, in an order of its own."""
        random = np.random.default_rng([self.seed, source, number])
        # A pass may reach over two epochs, in which clips are played at other speeds: there is room for the slowest.
        speed = self.augment.speed
        slowest = min(*speed.factors, 1.0) if speed.probability else 1.0
        return shuffled(
            windows(replace(columns, audio_s=columns.audio_s / slowest), self.packing, self.limits, random), random
        )

    def steps(
        self, runs: Runs, columns: UtteranceColumns, ids: Sequence[str] | None, epoch: int, window: int = 0
    ) -> Epoch:
        """Return the steps of an epoch, or of one window of a stream: the runs, with their lengths after speed changes.

        ``ids`` of all utterances are needed where clips are played at other speeds (``needs_ids``). Raises UserError
        where there is too little for one step.
        """
        if ids is not None:
            played_s = columns.audio_s / speeds(ids, self.augment, self.seed, epoch)
            columns = replace(columns, audio_s=np.where(played_s > self.limits.window_s, columns.audio_s, played_s))
        random = np.random.default_rng([self.seed, epoch, window, 1])
        planned = items(runs, columns, self.packing, self.limits, random)
        return plan_epoch(planned, self.batching, self.seed, epoch, window)

    @property
    def needs_ids(self) -> bool:
        """Return whether an utterance's length depends on its id."""
        return bool(self.augment.speed.probability)
