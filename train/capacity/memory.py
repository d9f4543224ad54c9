"""Peak memory of one worker: the constant part, and the worst moment of a step, simulated segment by segment."""

from __future__ import annotations

from dataclasses import dataclass

from asr.models.capacity import FLOAT32
from train.capacity.setup import Setup

MIB = 2**20
GIB = 2**30

ADAM_BYTES = 2 * FLOAT32  # both moments of a trained weight
MASTER_BYTES = FLOAT32  # DeepSpeed's own copy of a trained weight, whatever the precision
NF4_BYTES = 0.5 + 1 / 64 + FLOAT32 / (64 * 256)  # bitsandbytes: 4 bits, a byte of scale for 64, doubly quantised

# Neither follows from shapes. Of the CPU, measured: `python -m benchmarks.memory` prints what is left over beside the
# other parts. Of a GPU, declared: CUDA's context and cuBLAS' workspaces, not yet measured on one.
CPU_FRAMEWORK = 50 * MIB
GPU_FRAMEWORK = 1 * GIB


@dataclass(frozen=True)
class Memory:
    """The worst moment of a step, in bytes on the worker's device; ``host`` is what offloading puts beside it."""

    weights: int
    optimiser: int
    gradients: int
    activations: int
    framework: int
    moment: str
    host: int = 0

    @property
    def peak(self) -> int:
        """The sum of all parts."""
        return self.weights + self.optimiser + self.gradients + self.activations + self.framework


@dataclass(frozen=True)
class _Moment:
    name: str
    gradients: int
    activations: int


def trained_parameters(setup: Setup) -> int:
    """Return the weights that the optimiser changes, those of adapters among them."""
    return setup.shape.trained_parameters(setup)


def memory(setup: Setup) -> Memory:
    """Return the peak of a step, from the second one on: the first has no optimiser states yet."""
    trained, stage, n = trained_parameters(setup), setup.zero, setup.workers
    weights = _weights(setup, trained)
    optimiser = ADAM_BYTES * trained
    if stage:
        optimiser = (ADAM_BYTES + MASTER_BYTES) * trained // n
    buffers = _buffers(setup, trained)
    host = 0
    if setup.offload == "cpu":
        # The moments, the master weights and the gradients that they meet; with ZeRO-3 the weights' shards as well.
        host = optimiser + FLOAT32 * trained // n
        optimiser = 0
        if stage == 3:
            host += weights
            weights = _gathered(setup)
    elif stage == 3:
        weights += _gathered(setup)
    worst = max(_moments(setup, trained), key=lambda moment: moment.gradients + moment.activations)
    framework = GPU_FRAMEWORK if setup.gpu else CPU_FRAMEWORK
    return Memory(weights, optimiser, worst.gradients + buffers, worst.activations, framework, worst.name, host)


def _weights(setup: Setup, trained: int) -> int:
    shape = setup.shape
    adapters = trained * setup.trained_bytes if setup.has_adapters else 0
    if setup.strategy == "qlora":
        quantised = sum(linear.inputs * linear.outputs for linear in shape.linears)
        return round(quantised * NF4_BYTES) + (shape.parameters - quantised) * setup.weight_bytes + adapters
    shards = setup.workers if setup.zero == 3 else 1
    return (shape.parameters * setup.weight_bytes + adapters) // shards


def _gathered(setup: Setup) -> int:
    """Return what ZeRO-3 holds whole at a time: the layer that runs, and the next one on its way."""
    return setup.shape.gathered * setup.weight_bytes


def _buffers(setup: Setup, trained: int) -> int:
    """Return what gradients are copied into on their way to the other workers."""
    if setup.zero:
        return 2 * setup.shape.width**2 * setup.compute_bytes  # transformers sizes DeepSpeed's by the network's width
    return trained * setup.trained_bytes if setup.workers > 1 else 0


def _moments(setup: Setup, trained: int) -> list[_Moment]:
    """Return the moments of a step that may be the worst: each segment's backward pass, and the optimiser's step."""
    network, offloads = setup.shape.segments(setup), setup.offload == "cpu"
    share = 0.0 if offloads else setup.trained_bytes / (setup.workers if setup.zero >= 2 else 1)  # bytes for a weight
    whole = round(trained * share)
    kept = sum(segment.saved for segment in network)
    gradients = whole if setup.accumulates else 0
    moments = []
    for segment in reversed(network):
        own = segment.trained * setup.trained_bytes
        extra = segment.recomputed + segment.cached + max(segment.transient, own)
        moments.append(_Moment(segment.name, gradients, kept + extra))
        kept -= segment.saved
        gradients = min(whole, gradients + round(segment.trained * share))
    float32 = FLOAT32 * trained // setup.workers if setup.zero and not offloads else 0  # DeepSpeed's copy for the step
    return [*moments, _Moment("optimiser step", whole + float32, 0)]
