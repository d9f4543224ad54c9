"""Measures early signs of whether a network learns, and stops a run that is in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import TrainerCallback

from asr.models.training import TrainingLoss

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class LearningWatch(TrainerCallback):
    """Adds what the family's loss measures to the step's figures, and raises the UserError that it finds in them."""

    def __init__(self, loss: TrainingLoss, warmup_steps: int) -> None:
        self._loss, self._warmup_steps = loss, warmup_steps

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Take the measures of the steps since the last figures."""
        if logs is None or "loss" not in logs:
            return
        logs.update(self._loss.measures())
        if fault := self._loss.fault(state.global_step - self._warmup_steps):
            raise fault
