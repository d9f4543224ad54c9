"""A way to train, as far as memory and time are concerned: strategy, parallelism, precision, batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asr.models.capacity import BFLOAT16, FLOAT32, Adapters, BatchShape, Linear, NetworkSize

StrategyName = Literal["full", "frozen_feature_encoder", "frozen_encoder", "language_adapter", "lora", "dora", "qlora"]
PLANNED: tuple[StrategyName, ...] = ("full", "frozen_encoder", "lora", "dora", "qlora")
"""Strategies that any network can be trained by: those that are compared."""
ParallelismName = Literal["ddp", "zero1", "zero2", "zero3"]


@dataclass(frozen=True)
class Setup:
    """A training setup: the network, the way it is trained and the number of workers."""

    shape: NetworkSize
    batch: BatchShape
    adapters: Adapters
    strategy: StrategyName = "lora"
    parallelism: ParallelismName = "ddp"
    offload: Literal["none", "cpu"] = "none"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    checkpointing: bool = False
    accumulates: bool = False
    """True if a worker takes several micro-batches a step, so that gradients stay while the next one runs."""
    workers: int = 1
    gpu: bool = True

    @property
    def trains_encoder(self) -> bool:
        """Return whether the encoder's own weights are trained."""
        return self.strategy in ("full", "frozen_feature_encoder", "language_adapter")

    @property
    def trains_decoder(self) -> bool:
        """Return whether the decoder's own weights are trained."""
        return not self.has_adapters

    @property
    def zero(self) -> int:
        """The stage of ZeRO; 0 for DDP."""
        return 0 if self.parallelism == "ddp" else int(self.parallelism[-1])

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in the matrix products."""
        return FLOAT32 if self.precision == "fp32" else BFLOAT16

    @property
    def has_adapters(self) -> bool:
        """Return whether adapters are trained beside frozen weights."""
        return self.strategy in ("lora", "dora", "qlora")

    @property
    def autocast(self) -> bool:
        """Return whether PyTorch casts from the precision of storage to the precision of the arithmetic."""
        return self.zero == 0 and self.compute_bytes < FLOAT32

    @property
    def weight_bytes(self) -> int:
        """Bytes of a base weight: as it is computed with, but float32 where autocast stands between."""
        return FLOAT32 if self.autocast and not self.has_adapters else self.compute_bytes

    @property
    def trained_bytes(self) -> int:
        """Bytes of a trained weight and of its gradient; DeepSpeed's float32 copies count as optimiser states."""
        return FLOAT32 if self.autocast else self.compute_bytes

    def adapts(self, linear: Linear) -> bool:
        """Return whether a linear layer has an adapter."""
        names = self.adapters.target_modules
        return self.has_adapters and (names is None or linear.name in names)

    def adapter_parameters(self, linear: Linear) -> int:
        """Weights of a linear layer's adapter."""
        if not self.adapts(linear):
            return 0
        magnitude = linear.outputs if self.strategy == "dora" else 0
        return self.adapters.rank * (linear.inputs + linear.outputs) + magnitude
