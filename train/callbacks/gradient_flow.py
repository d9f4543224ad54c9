"""Proves after the first step that a gradient reaches every weight that is to be trained.

Adapters may be cut off from the loss without any error, for instance by activation checkpointing behind a frozen front
end (peft pull request 617): the loss falls all the same, and half of the adapters stay what they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback

from asr.errors import UserError

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

_SHOWN = 3
_CHANCE = 1e-9  # of a layer to be left out of all of these steps


def trained_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that get a gradient from the first step on.

    That is all that are trained but LoRA's A: as long as its B is zero, A's gradient is too.
    """
    return {
        name: weight for name, weight in network.named_parameters() if weight.requires_grad and ".lora_A." not in name
    }


def silent_weights(network: nn.Module) -> list[str]:
    """Return the names of trained weights to which a backward pass in this process has brought no gradient."""
    return [
        name for name, weight in trained_weights(network).items() if weight.grad is None or not weight.grad.any().item()
    ]


def steps_to_meet_all(layerdrop: float) -> int:
    """Return in how many steps each layer is met almost surely, where each step leaves it out so probably."""
    return math.ceil(math.log(_CHANCE) / math.log(layerdrop)) if layerdrop else 1


class GradientWatch(TrainerCallback):
    """Raises UserError in the first step whose tokens bring no gradient to some weight; then it is out of the way.

    Where steps leave out layers, it looks at some ``steps`` together.

    Gradients are met on their way into the weights. Looked at afterwards, most of them are gone: DeepSpeed shares them
    out among the workers and has made its step before anybody is called.
    """

    def __init__(self, steps: int = 1) -> None:
        self._steps = steps
        self._handles: list[RemovableHandle] = []
        self._names: list[str] = []
        self._met: torch.Tensor | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: object
    ) -> None:
        """Start to watch the gradients of all trained weights."""
        weights = trained_weights(model)
        self._names = list(weights)
        self._met = torch.zeros(len(weights), dtype=torch.int32, device=args.device)
        self._handles = [weight.register_hook(self._watch(index)) for index, weight in enumerate(weights.values())]

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Judge the step, all workers together: one of them may have had nothing but idle micro-batches."""
        if self._met is None:
            return
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._met, torch.distributed.ReduceOp.MAX)
        if not self._met.any():
            return  # a step without a single token says nothing: the next one will
        self._steps -= 1
        if self._steps > 0 and not self._met.all():
            return
        silent = [name for name, met in zip(self._names, self._met.tolist(), strict=True) if not met]
        for handle in self._handles:
            handle.remove()
        self._met = None
        if silent:
            raise UserError(
                f"no gradient reached {len(silent)} of {len(self._names)} trained weights: {_listed(silent)}",
                "they would stay as they are: leave them out (lora.target_modules), or use another strategy",
            )

    def _watch(self, index: int) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            if self._met is not None:
                self._met[index] |= gradient.detach().any().to(self._met)

        return note


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
