"""Devices as people write them."""

from __future__ import annotations

import pytest

from asr.errors import UserError
from cluster.gpus import GIB, KNOWN, Device, GpuFleet, parse


def fleet(text: str) -> GpuFleet:
    return parse(text, lambda: 1e11)


@pytest.mark.parametrize(
    ("text", "count", "name", "gib"),
    [
        ("4x24GB", 4, "24GB", 24),
        ("80gb", 1, "80GB", 80),
        ("8xA100-80GB", 8, "A100-80GB", 80),
        ("2xa100", 2, "A100-40GB", 40),
        ("1xH100", 1, "H100", 80),
        ("rtx4090", 1, "RTX4090", 24),
        ("2xCPU-16GB", 2, "CPU-16GB", 16),
    ],
)
def test_a_fleet_is_a_number_of_devices(text: str, count: int, name: str, gib: int) -> None:
    found = fleet(text)
    assert (found.count, found.device.name, found.device.memory) == (count, name, gib * GIB)


def test_a_size_alone_is_taken_for_the_slowest_gpu_that_has_it() -> None:
    assert fleet("1x24GB").assumed == "RTX3090"
    assert fleet("1x32GB").assumed == "A100-40GB"  # the smallest with as much, and bf16
    assert fleet("1x1000GB").assumed == "B200"
    assert fleet("2xa100").assumed == "A100-40GB"
    assert fleet("1xH100").assumed == ""


def test_a_cpu_is_as_fast_as_it_was_measured_to_be() -> None:
    device = fleet("CPU-8GB").device
    assert not device.gpu
    assert device.flops("fp32") == 1e11


@pytest.mark.parametrize("text", ["", "x24GB", "0x24GB", "4x", "4x24 GB", "0GB", "many"])
def test_what_names_no_devices_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--gpus"):
        fleet(text)


def test_a_misspelt_gpu_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(UserError, match="did you mean 'RTX4090'"):
        fleet("2xRTX4091")


@pytest.mark.parametrize("device", KNOWN, ids=lambda device: device.name)
def test_known_gpus_are_faster_in_half_precision(device: Device) -> None:
    assert device.half > device.fp32 > 1e12
    assert fleet(device.name).device == device
