"""Whisper's loss: every token of a step weighs the same."""

from __future__ import annotations

import torch
from transformers.modeling_outputs import Seq2SeqLMOutput

from asr.models.processor import IGNORED


def token_loss(
    outputs: Seq2SeqLMOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross entropy summed over tokens and divided by the tokens of the whole step, on all workers.

    Each token weighs the same, however utterances fell into micro-batches. Whisper's own loss is a mean over each
    micro-batch (transformers pull request 46068).
    """
    logits = outputs.logits.flatten(0, 1).float()
    total = torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    tokens = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return total / torch.as_tensor(tokens, device=total.device).clamp(min=1)
