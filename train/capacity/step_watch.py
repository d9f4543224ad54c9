"""Memory and operations of a step, noted while it runs, on real or on fake tensors."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import _engine_run_backward, saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from asr.models.capacity import ActivationSegment


def _attention(query: Any, key: Any, value: Any, *others: Any, out_val: Any = None, **named: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(
    gradient: Any, query: Any, key: Any, value: Any, *others: Any, out_val: Any = None, **named: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))


_COUNTED = {  # torch counts a GPU's attention, but not the CPU's
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class _Saved:
    """What a hook gives autograd in place of a tensor; it is gone when autograd lets go of it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


@dataclass(eq=False)
class _Stretch:
    """Bytes, numbers and operations of one stretch; ``gradients`` are bytes of weights' that were there before it."""

    name: str
    copies: int = 1
    began: int = 0  # bytes that were in use at its beginning
    operations: int = 0
    saved: int = 0
    peak: int = 0
    gradients: int | None = None
    trained: int = 0
    forward: int = 0
    backward: int = 0


class StepWatch(TorchDispatchMode):
    """Follows all storages that are made while it is active, from their first tensor to their last.

    ``network``'s own weights are not counted. Stretches are its ``layers`` and what is computed between them.
    ``copies`` says of a layer for how many equal ones it stands, itself among them.
    """

    def __init__(self, network: nn.Module, layers: Iterable[nn.Module], copies: Mapping[nn.Module, int]) -> None:
        super().__init__()
        self._network = network
        self._layers = tuple(layers)
        self._copies = copies
        own = (*network.parameters(), *network.buffers())
        self._own = {weight.untyped_storage()._cdata for weight in own}
        self._sizes: dict[int, int] = {}
        self._live = 0
        self._gradients = 0
        self._now = _Stretch("front")
        self._stretches = [self._now]
        self._in_backward = False
        self._saved: list[tuple[weakref.ref[_Saved], _Stretch]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what came of it."""
        out = func(*args, **(kwargs or {}))
        stretch = self._now
        stretch.operations += 1
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        if count := _COUNTED.get(func._overloadpacket):
            operations = count(*args, **(kwargs or {}), out_val=out)
            if self._in_backward:
                stretch.backward += operations
            else:
                stretch.forward += operations
        return out

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Have the block's forward pass noted by stretch, and its backward pass once ``backward`` is called."""
        handles = []
        for layer in self._layers:
            handles.append(layer.register_forward_pre_hook(self._begin_layer))
            handles.append(layer.register_forward_hook(self._end_layer))
        for weight in self._network.parameters():
            if weight.requires_grad:
                handles.append(weight.register_post_accumulate_grad_hook(self._accumulated))
        try:
            with self, saved_tensors_hooks(self._pack, lambda saved: saved.tensor):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def backward(self, loss: torch.Tensor) -> None:
        """Settle what the forward pass has saved, and run the backward pass."""
        seen = set(self._own)
        for held, stretch in self._saved:
            if (saved := held()) is None:
                continue
            storage = saved.tensor.untyped_storage()
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                stretch.saved += storage.nbytes()
        self._in_backward = True
        # Not loss.backward(): a function mode is told of that, and is not active within it, where layers run again.
        _engine_run_backward(
            (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
        )

    def segments(self) -> tuple[ActivationSegment, ...]:
        """Return the stretches, each as often as it stands for: what is on top of all that is saved is transient."""
        found, kept = [], 0
        for stretch in self._stretches:
            kept += stretch.saved
            segment = ActivationSegment(
                stretch.name,
                stretch.trained,
                saved=stretch.saved,
                transient=max(0, stretch.peak - kept),
                forward=stretch.forward,
                backward=stretch.backward,
            )
            found += [segment] * stretch.copies
        # What a layer leaves behind and autograd does not save, as autocast's copies of weights, stays till the loss.
        # The watch has not seen it of layers that were left out.
        cached = sum(
            (one.copies - 1) * max(0, following.began - one.began - one.saved)
            for one, following in pairwise(self._stretches)
        )
        return (*found[:-1], replace(found[-1], cached=cached))

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes and key not in self._own:
            self._sizes[key] = storage.nbytes()
            self._live += storage.nbytes()
            weakref.finalize(storage, self._forget, key)
            self._note_peak()

    def _forget(self, key: int) -> None:
        self._live -= self._sizes.pop(key)

    def _note_peak(self) -> None:
        """What the forward pass holds is most at its end: before, less is saved, and no gradients are there."""
        stretch = self._now
        if self._in_backward and stretch.gradients is None:
            stretch.gradients = self._gradients
        stretch.peak = max(stretch.peak, self._live - (stretch.gradients or 0))

    def _begin_layer(self, layer: nn.Module, args: Any) -> None:
        before = self._now
        if not before.operations:
            self._stretches.pop()
        else:
            self._on_gradient(args[:1], before)  # not of what comes from elsewhere, as an encoder's states do
        self._cut(type(layer).__name__, self._copies.get(layer, 1))

    def _end_layer(self, layer: nn.Module, args: Any, out: Any) -> None:
        self._on_gradient(out, self._now)
        self._cut("between layers")

    def _cut(self, name: str, copies: int = 1) -> None:
        before = self._now
        before.peak = 0  # of the forward pass: only the last stretch's counts
        self._now = _Stretch(name, copies, began=self._live)
        self._stretches.append(self._now)

    def _on_gradient(self, tensors: Any, stretch: _Stretch) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda gradient: self._turn_to(stretch))

    def _turn_to(self, stretch: _Stretch) -> None:
        self._now = stretch

    def _pack(self, tensor: torch.Tensor) -> _Saved:
        saved = _Saved(tensor)
        self._saved.append((weakref.ref(saved), self._now))
        return saved

    def _accumulated(self, weight: torch.Tensor) -> None:
        self._gradients += weight.numel() * weight.element_size()
        self._now.trained += weight.numel()
