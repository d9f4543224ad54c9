"""Estimates the time of a step: operations over the device's speed, bytes over the link between workers."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from asr.models.capacity import FLOAT32
from cluster.gpus import Device
from train.capacity.memory import ADAM_BYTES, MASTER_BYTES, trained_parameters
from train.capacity.setup import Setup

# Shares of a device's matrix products that training reaches. Of GPUs, declared: published figures for fine-tuning
# lie at 30 to 50 %, and an H200 reached 30 % where its products were large enough. Of the CPU, measured: about the
# middle of `utilisation` in benchmarks/results/memory.json.
GPU_UTILISATION = 0.35
CPU_UTILISATION = 0.3
# Seconds that a host takes to launch the kernels of one linear layer with what stands around it, forward and backward:
# a GPU waits for them where its products are small, and adapters are many small ones. Rough figures, from `step_s` in
# benchmarks/results/gpu/memory.json: one H200, while other processes were on its host's 16 cores.
_ADAPTERS_LAUNCH_S = {"lora": 1.0e-3, "qlora": 1.5e-3, "dora": 2.5e-3}
_LAUNCH_S = 0.4e-3  # without adapters, whatever is frozen
# Declared: what a host reads and writes per second, and what goes through its PCIe 4.0 x16 to the GPU.
HOST_BYTES_PER_S = 20e9
PCIE_BYTES_PER_S = 20e9


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one micro-batch."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Operations of the forward and the backward pass."""
        return self.forward + self.backward


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimiser step. Nothing is taken to overlap: communication is an upper bound."""

    compute_s: float
    communication_s: float
    optimiser_s: float

    @property
    def total_s(self) -> float:
        """Seconds of the whole step."""
        return self.compute_s + self.communication_s + self.optimiser_s


def cpu_flops() -> float:
    """Measure what a float32 matrix product reaches on this machine, all cores, in a fraction of a second."""
    side, seconds = 1024, []
    matrix = np.ones((side, side), dtype=np.float32)
    for _ in range(5):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds)


def flops(setup: Setup) -> Flops:
    """Return the operations of one micro-batch; with activation checkpointing layers are computed twice."""
    network = setup.shape.segments(setup)
    return Flops(sum(segment.forward for segment in network), sum(segment.backward for segment in network))


def step_time(setup: Setup, device: Device, micro_batches: int) -> StepTime:
    """Return the seconds of a step in which each worker takes ``micro_batches``."""
    reached = device.flops(setup.precision) * (GPU_UTILISATION if setup.gpu else CPU_UTILISATION)
    return StepTime(
        compute_s=micro_batches * max(flops(setup).total / reached, launches_s(setup)),
        communication_s=communicated_bytes(setup, micro_batches) / device.link_bytes_per_s,
        optimiser_s=_optimiser_s(setup, device),
    )


def launches_s(setup: Setup) -> float:
    """Return the seconds below which no micro-batch comes, however small: 0 on a CPU, which launches nothing."""
    if not setup.gpu:
        return 0.0
    passes = 3 if setup.checkpointing else 2  # of which each linear layer is in one, as far as a host can tell
    return len(setup.shape.linears) * _ADAPTERS_LAUNCH_S.get(setup.strategy, _LAUNCH_S) * passes / 2


def communicated_bytes(setup: Setup, micro_batches: int) -> float:
    """Return what a worker sends in a step (Rajbhandari et al., 2020, section 7).

    DDP and ZeRO-1 reduce gradients once a step and send on what came of them, ZeRO-2 reduces with each micro-batch;
    ZeRO-3 gathers weights for either pass as well.
    """
    ring = (setup.workers - 1) / setup.workers
    gradients = trained_parameters(setup) * setup.trained_bytes
    if setup.zero < 2:
        return 2 * ring * gradients
    if setup.zero == 2:
        return ring * gradients * (micro_batches + 1)
    return ring * micro_batches * (gradients + 2 * setup.shape.parameters * setup.weight_bytes)


def _optimiser_s(setup: Setup, device: Device) -> float:
    """Return what reading and writing weights, moments and gradients takes: AdamW computes little."""
    trained = trained_parameters(setup)
    if setup.zero:
        trained //= setup.workers
    touched = trained * (2 * ADAM_BYTES + 2 * MASTER_BYTES + FLOAT32)
    if setup.offload == "none":
        return touched / device.memory_bytes_per_s
    moved = 2 * trained * setup.trained_bytes  # gradients to the host, weights back
    return touched / HOST_BYTES_PER_S + moved / PCIE_BYTES_PER_S
