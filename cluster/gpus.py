"""The devices of a cluster as a person writes them: 4x24GB, 8xA100-80GB, 1xH100, 2xCPU-16GB."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from asr.config import suggestion
from asr.errors import UserError

GIB = 2**30
_TERA, _GIGA = 10**12, 10**9
_NVLINK, _PCIE, _NETWORK = 300 * _GIGA, 12 * _GIGA, 1 * _GIGA  # reached by all-reduce, roughly half of the nominal

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Device:
    """The device that a worker computes on.

    ``fp32`` and ``half`` are floating-point operations per second of dense matrix products with float32 accumulation,
    in float32 (without TF32, which PyTorch leaves off) and on half-precision numbers.
    """

    name: str
    memory: int
    fp32: float
    half: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    has_bf16: bool = True
    gpu: bool = True

    def flops(self, precision: Precision) -> float:
        """Return the operations per second in a precision."""
        return self.fp32 if precision == "fp32" else self.half


def _gpu(
    name: str, gib: int, fp32: float, half: float, bandwidth: float, link: float = _PCIE, bf16: bool = True
) -> Device:
    return Device(name, gib * GIB, fp32 * _TERA, half * _TERA, bandwidth * _GIGA, link, bf16)


# NVIDIA's data sheets: memory, TFLOPS without sparsity (float32, then half on tensor cores), GB/s of its memory.
KNOWN = (
    _gpu("T4", 16, 8.1, 65, 320, bf16=False),
    _gpu("V100-16GB", 16, 15.7, 125, 900, _NVLINK, bf16=False),
    _gpu("V100-32GB", 32, 15.7, 125, 900, _NVLINK, bf16=False),
    _gpu("RTX3090", 24, 35.6, 71, 936),
    _gpu("RTX4090", 24, 82.6, 165, 1008),
    _gpu("A10", 24, 31.2, 125, 600),
    _gpu("L4", 24, 30.3, 121, 300),
    _gpu("A6000", 48, 38.7, 155, 768),
    _gpu("A40", 48, 37.4, 150, 696),
    _gpu("L40S", 48, 91.6, 362, 864),
    _gpu("A100-40GB", 40, 19.5, 312, 1555, _NVLINK),
    _gpu("A100-80GB", 80, 19.5, 312, 2039, _NVLINK),
    _gpu("H100", 80, 67, 989, 3350, _NVLINK),
    _gpu("H200", 141, 67, 989, 4800, _NVLINK),
    _gpu("B200", 180, 75, 2250, 7700, _NVLINK),
)
_HINT = "write 4x24GB, 8xA100-80GB, 1xH100 or 2xCPU-16GB"


@dataclass(frozen=True)
class GpuFleet:
    """So many devices of one kind; ``assumed`` says what a size without a name was taken for."""

    count: int
    device: Device
    assumed: str = ""


def parse(text: str, cpu_flops: Callable[[], float]) -> GpuFleet:
    """Return the fleet that ``text`` names.

    A size alone (``24GB``) stands for the slowest known GPU of at least 16 GB that has as much memory and bfloat16,
    with its memory set to the size. ``cpu_flops`` tells what a CPU reaches, for ``CPU-16GB``. Raises UserError.
    """
    found = re.fullmatch(r"(?:(\d+)x)?([A-Za-z0-9-]+)", text.strip())
    count = int(found[1] or 1) if found else 0
    if not found or not count:
        raise UserError(f"--gpus {text}: not a number of devices and their kind", _HINT)
    kind = found[2].upper()
    if cpu := re.fullmatch(r"CPU-?(\d+)GB", kind):
        return GpuFleet(count, _cpu(int(cpu[1]), cpu_flops()))
    if size := re.fullmatch(r"(\d+)GB", kind):
        return _by_size(count, int(size[1]))
    named = [device for device in KNOWN if device.name.upper() == kind or device.name.upper().startswith(f"{kind}-")]
    if not named:
        names = [device.name for device in KNOWN]
        raise UserError(f"--gpus {text}: '{found[2]}' is not known", suggestion(found[2], names) or _HINT)
    return GpuFleet(count, named[0], named[0].name if named[0].name.upper() != kind else "")


def _by_size(count: int, gib: int) -> GpuFleet:
    if not gib:
        raise UserError("--gpus: a device of 0 GB holds nothing", _HINT)
    modern = [device for device in KNOWN if device.has_bf16]
    enough = min((device.memory for device in modern if device.memory >= gib * GIB), default=modern[-1].memory)
    like = min((device for device in modern if device.memory == enough), key=lambda device: device.half)
    return GpuFleet(count, replace(like, name=f"{gib}GB", memory=gib * GIB), like.name)


def _cpu(gib: int, flops: float) -> Device:
    return Device(f"CPU-{gib}GB", gib * GIB, flops, flops, 10 * _GIGA, _NETWORK, gpu=False)
