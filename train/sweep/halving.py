"""Asynchronous successive halving, as Ray Tune has it, for trials that are runs with an artifact at their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from asr.parsed import JsonObject
from train.sweep.record import Report

if TYPE_CHECKING:
    import ray.tune.experiment
    from ray.tune.execution.tune_controller import TuneController


class Halving(AsyncHyperBandScheduler):
    """ASHA by word error rate over steps, which also knows the earlier trials of a resumed sweep.

    A trial is never stopped at its last step: its weights are trained, and about to become an artifact.
    """

    def __init__(
        self,
        last_steps: Sequence[int],
        grace_steps: int,
        reduction: float,
        on_stopped: Callable[[int], None] = lambda trial: None,
    ) -> None:
        super().__init__(
            time_attr="step",
            metric="wer",
            mode="min",
            max_t=max(max(last_steps), grace_steps),
            grace_period=grace_steps,
            reduction_factor=reduction,
            stop_last_trials=False,
        )
        self._last_steps, self._on_stopped = last_steps, on_stopped

    def remember(self, trial: int, reports: Sequence[Report]) -> None:
        """Take note of what a trial reported before the sweep went on."""
        for report in reports:
            for bracket in self._brackets:
                bracket.on_result(SimpleNamespace(trial_id=_id(trial)), report.step, -report.wer)

    def on_trial_result(
        self, tune_controller: TuneController, trial: ray.tune.experiment.Trial, result: JsonObject
    ) -> str:
        """Return whether a trial goes on after an evaluation."""
        number = int(result["trial"])
        stand_in = SimpleNamespace(trial_id=_id(number))  # Tune's own ids are others each time that a sweep goes on
        decision: str = TrialScheduler.CONTINUE
        for bracket in self._brackets:
            decision = bracket.on_result(stand_in, result["step"], -result["wer"])
        if decision == TrialScheduler.STOP and result["step"] < self._last_steps[number] and not result.get("over"):
            self._on_stopped(number)
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_add(self, tune_controller: TuneController, trial: ray.tune.experiment.Trial) -> None:
        """Do nothing: there is one bracket, and it knows trials by their number."""

    def on_trial_complete(
        self, tune_controller: TuneController, trial: ray.tune.experiment.Trial, result: JsonObject
    ) -> None:
        """Do nothing: the last report has come already."""

    def on_trial_remove(self, tune_controller: TuneController, trial: ray.tune.experiment.Trial) -> None:
        """Do nothing: nothing is held of the trial."""

    def on_trial_error(self, tune_controller: TuneController, trial: ray.tune.experiment.Trial) -> None:
        """Do nothing: what the trial reported by then still counts."""


def _id(trial: int) -> str:
    return f"{trial:03d}"
