"""CTC's loss, played on tensors without numbers: PyTorch's own reads the lengths of clips and labels.

Legend: B clips, T positions, V symbols, L labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class CtcKernel(TorchFunctionMode):
    """While it is active ``ctc_loss`` keeps and takes what PyTorch's kernels do, and computes nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, or what stands for the loss."""
        if func is not functional.ctc_loss:
            return func(*args, **(kwargs or {}))
        logprobs_TBV, labels_BL = args[:2]
        return _Loss.apply(logprobs_TBV, labels_BL)


class _Loss(torch.autograd.Function):
    """Both passes hold a table of all positions and of each label with a blank on either side."""

    @staticmethod
    def forward(ctx: Any, logprobs_TBV: torch.Tensor, labels_BL: torch.Tensor) -> torch.Tensor:
        positions, clips, _ = logprobs_TBV.shape
        losses_B = logprobs_TBV.new_empty(clips)
        table = logprobs_TBV.new_empty(clips, positions, 2 * labels_BL.shape[1] + 1)
        ctx.save_for_backward(logprobs_TBV, labels_BL, losses_B, table)
        return losses_B

    @staticmethod
    def backward(ctx: Any, gradient_B: torch.Tensor) -> Any:
        logprobs_TBV, _, _, table = ctx.saved_tensors
        other = torch.empty_like(table)
        gradient_TBV = torch.empty_like(logprobs_TBV)
        del other
        return gradient_TBV, None
