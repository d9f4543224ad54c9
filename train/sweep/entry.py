"""Entry point of a trial's process: Ray Tune starts one for each, and it imports all of training first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.imports import lasting_imports
from asr.parsed import JsonObject
from train.sweep.trials import Trial
from train.trainer.strategy import leave_out_unless_quantised

if TYPE_CHECKING:
    from train.run.fit import TrainingData


@dataclass(frozen=True)
class Bench:
    """Data that all trials of a sweep share: the trials, and the utterances, which were read once.

    ``data`` is by ``Trial.data_key``.
    """

    trials: tuple[Trial, ...]
    data: Mapping[str, TrainingData]


def enter(drawn: JsonObject, bench: Bench) -> None:
    """Run ``train.sweep.trial.run_trial``."""
    leave_out_unless_quantised(bench.trials[int(drawn["trial"])].config.strategy)
    with lasting_imports():
        from train.sweep.trial import run_trial

    run_trial(drawn, bench)
