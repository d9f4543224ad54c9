"""A training step of a network that has no formula: the real one, on tensors that have sizes and no numbers.

It is made from its config, adapted, and run by what trains it, so that it saves what training saves; no weights are
read and no memory is taken. ``docs/capacity.md`` says what that cannot tell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from transformers.utils import logging

from asr.audio.decode import SAMPLE_RATE
from asr.errors import UserError, one_line
from asr.models.capacity import POSITIONS_PER_S, ActivationSegment, Adapters, BatchShape, Linear, TrainingStep
from asr.models.checkpoint import Checkpoint
from asr.models.family import family_of, load_processor
from asr.models.processor import Processor
from train.capacity.ctc_kernel import CtcKernel
from train.capacity.folding import fold, layers_of
from train.capacity.gpu_kernels import GpuKernels
from train.capacity.step_watch import StepWatch
from train.trainer.adapter import adapt, base_dtype
from train.trainer.strategy import CHECKPOINTING, LoraSettings, Precision, Strategy

_CLOSING_S = 0.1  # families put a little silence behind a clip: it must not make the clip longer than the batch has it
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_UNTOLD = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    NotImplementedError,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)


@dataclass(frozen=True)
class FakeNetwork:
    """The network in a checkpoint's folder, as ``asr.models.capacity.NetworkSize`` asks for it.

    The folder needs config.json and what its family's processor reads, and no weights. Raises UserError where one of
    them is missing or damaged.
    """

    folder: Path

    @cached_property
    def parameters(self) -> int:
        """All weights, tied ones once."""
        return sum(weight.numel() for weight in self._bare.parameters())

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """All linear layers but those that 4-bit weights leave as they are."""
        return tuple(
            Linear(path.rpartition(".")[2], layer.in_features, layer.out_features, layer.bias is not None)
            for path, layer in _linears(self._bare, family_of(self.folder).unquantized)
        )

    @property
    def width(self) -> int:
        """The network's hidden size, by which transformers sizes DeepSpeed's buffers."""
        config = self._bare.config
        parts = (config, *(getattr(config, name) for name in config.sub_configs))  # Parakeet's is its encoder's
        return next(int(part.hidden_size) for part in parts if hasattr(part, "hidden_size"))

    @cached_property
    def gathered(self) -> int:
        """Weights of two of its largest layers, or of the largest single tensor."""
        layers = [sum(one.numel() for one in layer.parameters()) for layer in layers_of(self._bare)]
        most: int = max(2 * max(layers, default=0), *(weight.numel() for weight in self._bare.parameters()))
        return most

    @property
    def max_positions(self) -> int:
        """Encoder positions of the longest window, each of 20 ms."""
        return round(_processor(self.folder).window_s * POSITIONS_PER_S)

    @property
    def max_tokens(self) -> int:
        """Tokens that a label has room for."""
        return _processor(self.folder).max_label_tokens

    @cached_property
    def _bare(self) -> Any:
        with torch.device("meta"):
            return family_of(self.folder).untrained(self.folder, torch.float32)

    def trained_parameters(self, step: TrainingStep) -> int:
        """Return how many weights ask for a gradient."""
        return _trained(self.folder, step.strategy, step.adapters)

    def segments(self, step: TrainingStep) -> tuple[ActivationSegment, ...]:
        """Return the layers and what is between them. Raises UserError where the network asks for a number."""
        return _segments(self.folder, _Play.of(step))


@dataclass(frozen=True)
class _Play:
    """All that a step's activations follow from: setups that differ in something else share one play."""

    batch: BatchShape
    adapters: Adapters
    strategy: Strategy
    precision: Precision
    checkpointing: bool
    gpu: bool
    autocast: bool

    @classmethod
    def of(cls, step: TrainingStep) -> _Play:
        strategy, precision = cast(Strategy, step.strategy), cast(Precision, step.precision)
        return cls(step.batch, step.adapters, strategy, precision, step.checkpointing, step.gpu, step.autocast)


@lru_cache(maxsize=64)
def _trained(folder: Path, strategy: Strategy, adapters: Adapters) -> int:
    network, copies = _network(folder, strategy, "fp32", adapters)
    again = [weight for layer, times in copies.items() for weight in layer.parameters() for _ in range(times - 1)]
    return sum(weight.numel() for weight in (*network.parameters(), *again) if weight.requires_grad)


@lru_cache(maxsize=64)  # one for each line of a plan
def _segments(folder: Path, play: _Play) -> tuple[ActivationSegment, ...]:
    logging.set_verbosity_error()  # of a cache that is of no use with checkpointing
    network, copies = _network(folder, play.strategy, play.precision, play.adapters)
    if play.checkpointing:
        network.activation_checkpointing_enable(CHECKPOINTING)
    dtype = _DTYPES[play.precision]
    in_half = dtype != torch.float32 and not play.autocast
    if in_half:  # DeepSpeed keeps all weights in the precision of the arithmetic
        network.to(dtype)
    real = _batch(folder, play.batch)
    with FakeTensorMode():  # made after the adapters: PEFT looks at what is in a weight
        _fake(network)
        loss_of = family_of(folder).loss(network)
        watch = StepWatch(network, layers_of(network), copies)
        try:
            with watch.watched(), CtcKernel(), GpuKernels() if play.gpu else contextlib.nullcontext():
                batch = {name: _emptied(one) for name, one in real.items()}
                batch = {name: one.to(network.dtype) if one.is_floating_point() else one for name, one in batch.items()}
                labels = batch.pop("labels")
                with torch.autocast("cpu", dtype if play.autocast else None, enabled=play.autocast):
                    loss = loss_of(network(**batch), labels)
                watch.backward(loss)
        except _UNTOLD as error:
            raise UserError(
                f"{folder}: a step of this network cannot be told in advance: it asks for a number "
                f"({type(error).__name__}: {one_line(error)})",
                "train a few steps: their history has memory_gib",
            ) from error
    return watch.segments()


def _network(folder: Path, strategy: Strategy, precision: Precision, adapters: Adapters) -> tuple[Any, Any]:
    """Return the network as training has it before its first step, folded, and for how many a layer stands.

    Its weights have a size and no place.
    """
    family = family_of(folder)
    lora = LoraSettings(rank=adapters.rank, dropout=adapters.dropout, target_modules=adapters.target_modules)
    with torch.device("meta"):
        network = family.untrained(folder, base_dtype(strategy, precision))
        copies = fold(network)
        if strategy == "qlora":
            for _, layer in _linears(network, family.unquantized):
                # bitsandbytes keeps the same for the backward pass, and gives back the precision that it was given.
                layer.register_forward_hook(lambda _, args, out: out.to(args[0].dtype))
        return adapt(network, strategy, lora).train(), copies


def _fake(network: nn.Module) -> None:
    """Put fake weights in place of all, on the CPU; tied ones stay tied."""
    fakes: dict[int, Any] = {}  # by what they stand for, which the first pass keeps alive
    for module in list(network.modules()):
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = fakes.get(id(weight)) or (weight, nn.Parameter(_emptied(weight), weight.requires_grad))
                fakes[id(weight)], module._parameters[name] = fake, fake[1]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _emptied(buffer)


def _emptied(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _batch(folder: Path, shape: BatchShape) -> dict[str, torch.Tensor]:
    """Return a real batch of silence, collated by the family; its numbers are not used."""
    processor = _processor(folder)
    samples = round(max(shape.clip_s - _CLOSING_S, _CLOSING_S) * SAMPLE_RATE)
    clip = processor.features(np.zeros(samples, dtype=np.float32))
    labels_BL = np.zeros((shape.clips, shape.tokens + 1), dtype=np.int64)  # the first is an input only
    return processor.collate([clip] * shape.clips, labels_BL, np.zeros(shape.clips, dtype=np.int64), shape.clip_s)


def _linears(network: nn.Module, kept: Sequence[str]) -> Iterator[tuple[str, nn.Linear]]:
    for path, module in network.named_modules():
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] not in kept:
            yield path, module


@lru_cache(maxsize=1)
def _processor(folder: Path) -> Processor:
    return load_processor(Checkpoint(str(folder), folder, digest=""))
