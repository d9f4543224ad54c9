from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from asr.errors import UserError
from train.callbacks.learning import LearningWatch


class Loss:
    """The two questions that the watch asks."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.wrong: UserError | None = None

    def measures(self) -> dict[str, float]:
        return {"blank_share": 0.9}

    def fault(self, steps: int) -> UserError | None:
        self.asked.append(steps)
        return self.wrong


def logged(watch: LearningWatch, logs: dict[str, float], step: int = 30) -> None:
    nothing: Any = None
    watch.on_log(nothing, SimpleNamespace(global_step=step), nothing, logs)  # type: ignore[arg-type]


def test_measures_join_the_figures_of_a_step_and_no_others() -> None:
    loss: Any = Loss()
    watch = LearningWatch(loss, warmup_steps=20)
    logs, summary = {"loss": 1.0}, {"train_runtime": 1.0}
    logged(watch, logs)
    logged(watch, summary)
    assert (logs, summary) == ({"loss": 1.0, "blank_share": 0.9}, {"train_runtime": 1.0})
    assert loss.asked == [10]


def test_a_run_in_vain_ends() -> None:
    loss: Any = Loss()
    loss.wrong = UserError("nothing is learnt", "learn")
    with pytest.raises(UserError, match="nothing is learnt"):
        logged(LearningWatch(loss, warmup_steps=20), {"loss": 1.0})
