"""Whisper's loss: every token of a step weighs the same."""

from __future__ import annotations

import torch

from asr.errors import UserError
from asr.models.processor import IGNORED
from asr.models.training import NetworkOutput


def token_loss(
    outputs: NetworkOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross entropy summed over tokens and divided by the tokens of the whole step, on all workers.

    Each token weighs the same, however utterances fell into micro-batches. Whisper's own loss is a mean over each
    micro-batch (transformers pull request 46068).
    """
    logits = outputs.logits.flatten(0, 1).float()
    total = torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    tokens = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return total / torch.as_tensor(tokens, device=total.device).clamp(min=1)


class TokenLoss:
    """``token_loss`` as ``asr.models.family.TrainingLoss``: nothing but the loss tells whether training succeeds."""

    def __call__(
        self, outputs: NetworkOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of a micro-batch."""
        return token_loss(outputs, labels, num_items_in_batch)

    def measures(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def fault(self, steps: int) -> UserError | None:
        """Return None."""
        return None
