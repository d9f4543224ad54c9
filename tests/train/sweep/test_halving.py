from __future__ import annotations

from types import SimpleNamespace

from train.sweep.halving import Halving
from train.sweep.record import Report

CONTINUE, STOP = "CONTINUE", "STOP"


def report(scheduler: Halving, trial: int, step: int, wer: float, over: str = "") -> str:
    tune_trial = SimpleNamespace(trial_id="as Tune calls it")
    return scheduler.on_trial_result(None, tune_trial, {"trial": trial, "step": step, "wer": wer, "over": over})


def test_the_worse_ones_are_stopped_where_it_is_decided() -> None:
    stopped: list[int] = []
    scheduler = Halving([9, 9, 9], 1, 3.0, stopped.append)
    assert report(scheduler, 0, 1, 0.5) == CONTINUE  # nothing to compare with
    assert report(scheduler, 1, 1, 0.4) == CONTINUE
    assert report(scheduler, 2, 1, 0.6) == STOP
    assert report(scheduler, 1, 2, 0.9) == CONTINUE  # between two such steps
    assert stopped == [2]


def test_no_trial_is_stopped_at_its_last_step_or_when_it_is_over() -> None:
    scheduler = Halving([9, 3], 1, 3.0)
    for step in (1, 3):
        report(scheduler, 0, step, 0.1)
    assert report(scheduler, 1, 3, 0.9) == CONTINUE
    scheduler = Halving([9, 9], 1, 3.0)
    report(scheduler, 0, 1, 0.1)
    assert report(scheduler, 1, 1, 0.9, over="finished") == CONTINUE


def test_what_was_reported_before_a_sweep_was_killed_still_counts() -> None:
    scheduler = Halving([9, 9], 1, 3.0)
    scheduler.remember(0, [Report(1, 0.2), Report(3, 0.1)])
    assert report(scheduler, 1, 1, 0.3) == STOP
    assert report(scheduler, 0, 1, 0.9) == CONTINUE  # its first report at this step holds
