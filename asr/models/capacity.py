"""Sizes of a network and of a training step: enough to plan memory and time before either exists."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

FLOAT32, BFLOAT16 = 4, 2  # bytes of a number; float16 takes as many as bfloat16
POSITIONS_PER_S = 50


@dataclass(frozen=True)
class Linear:
    """A linear layer, ``name`` as transformers calls it, the last word of its path."""

    name: str
    inputs: int
    outputs: int
    bias: bool = True

    @property
    def parameters(self) -> int:
        """The number of its weights, biases included."""
        return self.inputs * self.outputs + self.outputs * self.bias


@dataclass(frozen=True)
class Adapters:
    """LoRA's settings, as far as they take memory; ``target_modules`` None: all linear layers."""

    rank: int
    dropout: float
    target_modules: tuple[str, ...] | None


@dataclass(frozen=True)
class BatchShape:
    """A micro-batch: ``clips`` of ``positions`` of 20 ms (50 for each second) and ``tokens`` each."""

    clips: int
    positions: int
    tokens: int

    @property
    def clip_s(self) -> float:
        """Seconds of a clip, padding included."""
        return self.positions / POSITIONS_PER_S

    @property
    def audio_s(self) -> float:
        """Seconds of all clips, padding included."""
        return self.clips * self.clip_s


@dataclass(frozen=True)
class ActivationSegment:
    """A stretch of the network, in the order of the forward pass. All in bytes.

    ``saved``: kept from the forward pass to the segment's backward pass. ``recomputed``: made again for its backward
    pass, with activation checkpointing. ``transient``: gradients on their way through its largest operation.
    ``cached``: what autocast keeps till the loss, where nothing else keeps it as well. ``trained``: its trained
    parameters (a number, not bytes). ``forward`` and ``backward``: floating-point operations of either pass; a
    multiplication and an addition are two.
    """

    name: str
    trained: int
    saved: int = 0
    recomputed: int = 0
    transient: int = 0
    cached: int = 0
    forward: int = 0
    backward: int = 0


class TrainingStep(Hashable, Protocol):
    """One worker's training on one micro-batch: activations and operations follow from it.

    ``compute_bytes`` are those of a number in matrix products, ``weight_bytes`` of a base weight, ``trained_bytes`` of
    a trained weight; ``autocast`` says whether PyTorch casts on the way from one to the other.
    """

    @property
    def batch(self) -> BatchShape: ...
    @property
    def adapters(self) -> Adapters: ...
    @property
    def strategy(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def checkpointing(self) -> bool: ...
    @property
    def gpu(self) -> bool: ...
    @property
    def trains_encoder(self) -> bool: ...
    @property
    def trains_decoder(self) -> bool: ...
    @property
    def autocast(self) -> bool: ...
    @property
    def compute_bytes(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def trained_bytes(self) -> int: ...

    def adapts(self, linear: Linear) -> bool:
        """Return whether a linear layer has an adapter."""

    def adapter_parameters(self, linear: Linear) -> int:
        """Return the weights of a linear layer's adapter."""


class NetworkSize(Hashable, Protocol):
    """Size of a network, known without its weights. It can be compared and hashed.

    ``parameters`` counts all weights, tied ones once; ``linears`` are the layers that 4-bit weights stand in for.
    ``width`` is that of its states. ZeRO-3 holds ``gathered`` weights whole at a time. A clip has at most
    ``max_positions`` of 20 ms, and a label ``max_tokens``.
    """

    @property
    def parameters(self) -> int: ...
    @property
    def linears(self) -> Sequence[Linear]: ...
    @property
    def width(self) -> int: ...
    @property
    def gathered(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...

    def trained_parameters(self, step: TrainingStep) -> int:
        """Return how many weights the optimiser changes, those of adapters among them."""

    def segments(self, step: TrainingStep) -> tuple[ActivationSegment, ...]:
        """Return the network's segments in the order of the forward pass.

        Raises UserError where a step of it cannot be told in advance.
        """
