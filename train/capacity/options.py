"""Options for training one configuration on given GPUs: the needs and cost of each, or why it is not possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal, get_args

from asr.models.capacity import POSITIONS_PER_S, Adapters, BatchShape, NetworkSize
from cluster.gpus import GpuFleet
from train.capacity.memory import GIB, Memory, memory
from train.capacity.setup import PLANNED, ParallelismName, Setup, StrategyName
from train.capacity.speed import StepTime, step_time

if TYPE_CHECKING:
    from train.config import TrainConfig

# Of a device's memory: what PyTorch's allocator loses between blocks; on a host, what Ray, data and the system take.
GPU_USABLE = 0.95
HOST_USABLE = 0.8
_ALIKE = 0.05  # costs that differ by less are the same: then the simpler way is the better one

_Offload = Literal["none", "cpu"]


@dataclass(frozen=True)
class Option:
    """A way to train: ``reason`` says why it is not possible, and is empty where it is."""

    setup: Setup
    memory: Memory
    time: StepTime
    steps: int
    micro_batches_per_step: int
    reason: str

    @property
    def hours(self) -> float:
        """Hours of the whole run."""
        return self.steps * self.time.total_s / 3600

    @property
    def device_hours(self) -> float:
        """Hours of all devices together: these are paid for."""
        return self.hours * self.setup.workers

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """The configuration values for this option."""
        setup = self.setup
        found: dict[str, str | bool | int] = {"strategy": setup.strategy, "parallelism": setup.parallelism}
        found |= {"offload": setup.offload, "activation_checkpointing": setup.checkpointing}
        found |= {"workers.count": setup.workers, "workers.gpu": setup.gpu}
        return found | {"batching.micro_batches_per_step": self.micro_batches_per_step}


def setup_of(config: TrainConfig, shape: NetworkSize, fleet: GpuFleet) -> Setup:
    """Return the configuration as the estimate sees it, with micro-batches at their bounds, one worker per device."""
    batching, lora = config.batching, config.lora
    positions = min(shape.max_positions, math.ceil(batching.max_audio_s * POSITIONS_PER_S / batching.max_clips))
    tokens = min(shape.max_tokens, math.ceil(batching.max_tokens / batching.max_clips))
    return Setup(
        shape=shape,
        batch=BatchShape(batching.max_clips, positions, tokens),
        adapters=Adapters(lora.rank, lora.dropout, lora.target_modules),
        strategy=config.strategy,
        parallelism=config.parallelism,
        offload=config.offload,
        precision=config.precision,
        checkpointing=config.activation_checkpointing,
        accumulates=batching.micro_batches_per_step > fleet.count,
        workers=fleet.count,
        gpu=fleet.device.gpu,
    )


def options(config: TrainConfig, shape: NetworkSize, fleet: GpuFleet, audio_hours: float | None = None) -> list[Option]:
    """Return all strategies, with every parallelism: first those that fit, by cost, then the others.

    Of those for some networks only, the configured one is among them.

    An option that does not fit is tried with activation checkpointing too. ``audio_hours`` is the audio trained on in
    all (the corpus times the epochs), in place of ``optim.max_steps``.
    """
    base = setup_of(config, shape, fleet)
    share = math.ceil(config.batching.micro_batches_per_step / fleet.count)  # micro-batches of a worker in a step
    steps = config.optim.max_steps
    if audio_hours is not None:
        steps = math.ceil(audio_hours * 3600 / (base.batch.audio_s * share * fleet.count))
    found = []
    ways = product(dict.fromkeys((*PLANNED, config.strategy)), get_args(ParallelismName), get_args(_Offload))
    for strategy, parallelism, offload in ways:
        if offload == "cpu" and parallelism in ("ddp", "zero1"):
            continue  # TrainConfig refuses it
        setup = replace(base, strategy=strategy, parallelism=parallelism, offload=offload)
        refused = _impossible(setup, fleet, elastic=config.workers.elastic is not None)
        option = _option(setup, fleet, steps, share, refused)
        if option.reason and not setup.checkpointing and not refused:
            option = _option(replace(setup, checkpointing=True), fleet, steps, share)
        found.append(option)
    return sorted(found, key=lambda option: (bool(option.reason), option.device_hours))


def cheapest(found: Sequence[Option], strategy: StrategyName | None = None) -> Option | None:
    """Return the cheapest option that fits, of one strategy or of all; the simplest of those that cost alike."""
    fitting = [option for option in found if not option.reason and strategy in (None, option.setup.strategy)]
    if not fitting:
        return None
    least = min(option.device_hours for option in fitting)
    alike = [option for option in fitting if option.device_hours <= least * (1 + _ALIKE)]
    return min(alike, key=lambda option: (option.setup.zero, option.setup.offload == "cpu", option.device_hours))


def _option(setup: Setup, fleet: GpuFleet, steps: int, share: int, refused: str = "") -> Option:
    needed = memory(setup)
    return Option(
        setup=setup,
        memory=needed,
        time=step_time(setup, fleet.device, share),
        steps=steps,
        micro_batches_per_step=share * fleet.count,
        reason=refused or _too_large(needed, setup, fleet),
    )


def _impossible(setup: Setup, fleet: GpuFleet, elastic: bool) -> str:
    """Return why a way makes no sense or does not run, whatever it needs."""
    device = fleet.device
    reasons = {
        f"{device.name} has no bf16: set precision=fp16": setup.precision == "bf16" and not device.has_bf16,
        "fp16 takes a GPU: set precision=bf16 or fp32": setup.precision == "fp16" and not setup.gpu,
        "4-bit weights take a GPU": setup.strategy == "qlora" and not setup.gpu,
        "ZeRO-3 cannot share out 4-bit weights": setup.strategy == "qlora" and setup.zero == 3,
        "there is no other memory to offload to: it is the CPU's": setup.offload == "cpu" and not setup.gpu,
        "one worker has nobody to share with: ddp does the same": (
            setup.zero > 0 and setup.workers == 1 and setup.offload == "none"
        ),
        "workers.elastic needs ddp": setup.zero > 0 and elastic,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _too_large(needed: Memory, setup: Setup, fleet: GpuFleet) -> str:
    room = fleet.device.memory * (GPU_USABLE if setup.gpu else HOST_USABLE)
    if needed.peak <= room:
        return ""
    parts = {
        "weights": needed.weights,
        "optimiser states": needed.optimiser,
        "gradients": needed.gradients,
        "activations": needed.activations,
    }
    name, most = max(parts.items(), key=lambda part: part[1])
    spared = ", even with activation checkpointing" if setup.checkpointing else ""
    return f"needs {needed.peak / GIB:.1f} of {room / GIB:.1f} GiB{spared}; most of it {name} ({most / GIB:.1f} GiB)"
