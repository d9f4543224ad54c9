"""Kernels of a GPU, played on the CPU's fake tensors: autograd then saves what it would save on a GPU.

Fake tensors of device ``cuda`` would tell the same, but a PyTorch that was built without CUDA ends the process where
autograd meets one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CPU = "cpu"
# What CUDA's autocast computes in float32 and the CPU's does not, as far as networks of speech have it.
# https://docs.pytorch.org/docs/stable/amp.html#cuda-ops-that-autocast-to-float32
_IN_FLOAT32 = frozenset(
    {
        functional.layer_norm,
        functional.group_norm,
        functional.softmax,
        functional.log_softmax,
        functional.cross_entropy,
        torch.softmax,
        torch.log_softmax,
        torch.cumsum,
        torch.exp,
        torch.log,
        torch.pow,
        torch.rsqrt,
        torch.Tensor.softmax,
        torch.Tensor.log_softmax,
        torch.Tensor.cumsum,
        torch.Tensor.pow,
        torch.Tensor.__pow__,
        torch.Tensor.rsqrt,
    }
)


class GpuKernels(TorchFunctionMode):
    """While it is active: fused attention, dropout and autocast as a GPU has them, in the CPU's autocast or in none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, or what stands for it on a GPU."""
        kwargs = kwargs or {}
        if func in _IN_FLOAT32 and torch.is_autocast_enabled(_CPU):
            with torch.autocast(_CPU, enabled=False):
                return func(*map(_float32, args), **{name: _float32(value) for name, value in kwargs.items()})
        stand_in: Callable[..., Any] = _STAND_INS.get(func, func)
        return stand_in(*args, **kwargs)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **others: Any,
) -> torch.Tensor:
    """Return what ``scaled_dot_product_attention`` returns, by the kernel that a GPU takes.

    That is flash attention for half precision without a mask, else the memory-efficient one.
    """
    scale, groups = others.get("scale"), query.shape[-3] // key.shape[-3]
    if torch.is_autocast_enabled(_CPU):
        query, key, value = (one.to(torch.get_autocast_dtype(_CPU)) for one in (query, key, value))
    if others.get("enable_gqa") and groups > 1:
        key, value = (one.repeat_interleave(groups, -3) for one in (key, value))
    if attn_mask is None and query.dtype in (torch.float16, torch.bfloat16):
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        out: torch.Tensor = flash(query, key, value, dropout_p, is_causal, scale=scale)[0]
        return out
    bias = None
    if attn_mask is not None:
        bias = attn_mask.to(query.dtype).expand(*query.shape[:-1], key.shape[-2])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    found: torch.Tensor = efficient(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]
    return found


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Return what ``dropout`` returns, with a mask of a byte for each number; the CPU's has the numbers' own size."""
    if not training or not 0.0 < p < 1.0:
        return input
    dropped: torch.Tensor = torch.ops.aten.native_dropout(input, p, True)[0]
    return dropped


_STAND_INS: dict[Any, Callable[..., Any]] = {
    functional.scaled_dot_product_attention: attention,
    functional.dropout: dropout,
}


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
