"""Gathers a whole copy of a network that ZeRO-3 has partitioned. All workers agree whether that succeeded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from asr.errors import UserError, one_line
from asr.models.family import family_of_network

# Weights are exchanged one by one, so workers that get on are never further apart than one of them takes.
PATIENCE_S = 60.0
_SHOWN_CHARACTERS = 300

T = TypeVar("T")


def is_shared_out(network: nn.Module) -> bool:
    """Return whether DeepSpeed has shared out the weights of a network."""
    return any(hasattr(weight, "ds_id") for weight in network.parameters())


def whole(network: nn.Module) -> PreTrainedModel:
    """Return a copy of the network inside ``network`` with whole weights, gathered one by one; all workers come here.

    Raises UserError, in all of them alike, where one could not make its copy. Where one has left an exchange in which
    the others still wait, nothing can bring them together: it raises its own error ``PATIENCE_S`` later.
    """
    apart = _apart()
    copy, error = _tried(lambda: _empty(network))  # most of what can fail does so here, where nobody waits yet
    _agree(error, None)
    assert copy is not None
    twin, pairs = copy
    _, error = _tried(lambda: _fill(pairs))
    _agree(error, apart)
    twin.tie_weights()
    return twin.eval()


def _empty(network: nn.Module) -> tuple[PreTrainedModel, list[tuple[nn.Parameter, nn.Parameter]]]:
    """Return a twin with room for all weights, and each weight beside the one that it is to be copied to."""
    inner = network.get_base_model() if isinstance(network, PeftModel) else network
    device = next(inner.parameters()).device
    with torch.device("meta"):
        twin = family_of_network(inner).twin(inner)
        shell = get_peft_model(twin, network.peft_config["default"]) if isinstance(network, PeftModel) else twin
    shell.to_empty(device=device)
    twin.tie_weights()
    if hasattr(inner, "generation_config"):
        twin.generation_config = inner.generation_config
    buffers = dict(network.named_buffers())  # every worker has all of them
    for name, buffer in shell.named_buffers():
        buffer.copy_(buffers[name])
    targets = dict(shell.named_parameters())
    pairs = [(weight, targets[name]) for name, weight in network.named_parameters()]
    for weight, target in pairs:
        target.data = torch.empty(weight.ds_shape, dtype=weight.dtype, device=device)
    # As much as the exchange of the largest will take: torch keeps it at hand.
    torch.empty(max(target.numel() for _, target in pairs), dtype=pairs[0][1].dtype, device=device)
    return twin, pairs


def _fill(pairs: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
    import deepspeed  # type: ignore[import-untyped,unused-ignore]

    first: Exception | None = None
    for weight, target in pairs:
        with deepspeed.zero.GatheredParameters([weight]):
            try:
                target.data.copy_(weight.data)
            except Exception as error:  # the others go on to the next weight, and so must this worker
                first = first or error
    if first is not None:
        raise first


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _agree(error: Exception | None, group: torch.distributed.ProcessGroup | None) -> None:
    """Raise UserError in all workers where one of them has an error, and that error itself where they do not come."""
    said = "" if error is None else f"{type(error).__name__}: {one_line(error)[:_SHOWN_CHARACTERS]}"
    everybody: list[str] = [said]
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        everybody *= torch.distributed.get_world_size()
        try:
            torch.distributed.all_gather_object(everybody, said, group=group)
        except RuntimeError as alone:
            raise error or alone from None
    if any(everybody):
        raise UserError(f"the weights cannot be gathered: {'; '.join(dict.fromkeys(filter(None, everybody)))}")


@functools.cache
def _apart() -> torch.distributed.ProcessGroup | None:
    """Return a group of all workers beside the one in which weights are exchanged, and in which some may hang."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return None
    return torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=PATIENCE_S))
