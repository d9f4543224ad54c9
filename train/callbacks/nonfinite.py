"""Stops the run on a NaN or Inf loss or gradient, and names the step and the utterances that caused it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import TrainerCallback

from asr.errors import UserError
from asr.models.training import NetworkOutput
from train.dataloader.dataset import ConsumedBatch, MicroBatchDataset

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

Loss = Callable[[NetworkOutput, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""The loss of a micro-batch; see ``asr.models.family.TrainingLoss``."""

_SHOWN = 10
_BOUND = 1e6  # no weight of a network that works is anywhere near it


class NonFiniteGuard(TrainerCallback):
    """Loss of a run that raises UserError if it is not finite, before it can spoil a weight.

    It names the step, and the utterances whose logits are not finite: those of one micro-batch. Without this
    transformers goes on with weights that are no numbers, and may log the mean of earlier losses in place of NaN. fp16
    skips steps whose gradients overflow, as it should; its loss is finite all the same.
    """

    def __init__(self, dataset: MicroBatchDataset, precision: str, loss: Loss) -> None:
        self._dataset, self._precision, self._loss = dataset, precision, loss
        self._step, self._network = 1, nn.Module()
        self._consumed: list[ConsumedBatch] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: object
    ) -> None:
        """Take note of the weights."""
        self._network = model

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Take note of the step."""
        self._step, self._consumed = state.global_step + 1, []

    def __call__(
        self, outputs: NetworkOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of the micro-batch that the dataset yielded next."""
        consumed = self._dataset.trained()
        self._consumed.append(consumed)
        loss = self._loss(outputs, labels, num_items_in_batch)
        if not torch.isfinite(loss):
            raise self._mistake(float(loss.detach()), outputs.logits.detach(), consumed)
        return loss

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Raise UserError where a step's gradients were not finite: its weights are not, but no checkpoint has them."""
        norm = (logs or {}).get("grad_norm")
        if norm is None or math.isfinite(norm) or self._precision == "fp16":
            return
        ids = [name for consumed in self._consumed for name in consumed.ids]
        raise UserError(f"step {state.global_step}: the gradients are {norm}; its utterances: {_listed(ids)}", _SMALLER)

    def _mistake(self, loss: float, logits: torch.Tensor, consumed: ConsumedBatch) -> UserError:
        broken = [name for name, weight in self._network.named_parameters() if not (weight.abs() < _BOUND).all()]
        if broken:
            said = f"the weights are beyond all bounds since the step before ({len(broken)}, the first: {broken[0]})"
            return UserError(f"step {self._step}: the loss is {loss}: {said}; met: {_listed(consumed.ids)}", _SMALLER)
        bad = (~torch.isfinite(logits)).flatten(1).any(1).tolist()
        usable = [name for name in consumed.ids if name not in consumed.faulty]
        if len(bad) == len(usable) and any(bad) and not all(bad):
            culprits = [name for name, is_bad in zip(usable, bad, strict=True) if is_bad]
            said = f"for {_listed(culprits)}, {len(culprits)} of {len(usable)} utterances in its micro-batch"
            hint = "listen to them, and leave them out of data.train"
            return UserError(f"step {self._step}: the loss is {loss} {said}", hint)
        hint = "try precision=fp32 or bf16" if self._precision == "fp16" else _SMALLER
        return UserError(
            f"step {self._step}: the loss is {loss} for all of a micro-batch: {_listed(consumed.ids)}", hint
        )


_SMALLER = "under another run.name: lower optim.learning_rate, longer optim.warmup_steps, or precision=fp32"


def _listed(ids: Iterable[str]) -> str:
    names = list(ids)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
