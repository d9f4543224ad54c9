"""What is trained, and in which precision it lies in memory."""

from __future__ import annotations

import pytest

from asr.models.capacity import Linear
from tests.train.capacity.networks import ADAPTERS, MakeSetup


@pytest.mark.parametrize(
    ("strategy", "precision", "parallelism", "weights", "trained"),
    [
        ("full", "fp32", "ddp", 4, 4),
        ("full", "bf16", "ddp", 4, 4),  # autocast casts on the way
        ("lora", "bf16", "ddp", 2, 4),  # frozen weights are loaded as they are computed with
        ("full", "bf16", "zero2", 2, 2),  # DeepSpeed's float32 copies are optimiser states
        ("lora", "fp16", "zero1", 2, 2),
        ("lora", "fp32", "zero3", 4, 4),
    ],
)
def test_bytes_of_a_weight(
    make_setup: MakeSetup, strategy: str, precision: str, parallelism: str, weights: int, trained: int
) -> None:
    setup = make_setup(strategy=strategy, precision=precision, parallelism=parallelism)
    assert (setup.weight_bytes, setup.trained_bytes) == (weights, trained)


def test_only_named_layers_are_adapted(make_setup: MakeSetup) -> None:
    layer = Linear("q_proj", 64, 256)
    assert make_setup(strategy="lora").adapter_parameters(layer) == ADAPTERS.rank * (64 + 256)
    assert make_setup(strategy="dora").adapter_parameters(layer) == ADAPTERS.rank * (64 + 256) + 256
    assert make_setup(strategy="lora").adapter_parameters(Linear("conv", 64, 256)) == 0
    assert make_setup(strategy="full").adapter_parameters(layer) == 0
