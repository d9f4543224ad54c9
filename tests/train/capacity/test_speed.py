"""Seconds of a step: what they are made of. Operations themselves are counted in test_activations."""

from __future__ import annotations

import pytest

from asr.models.capacity import BatchShape
from asr.models.whisper.shapes import SIZES
from cluster.gpus import parse
from tests.train.capacity.networks import MakeSetup
from train.capacity.memory import trained_parameters
from train.capacity.speed import communicated_bytes, cpu_flops, flops, launches_s, step_time

LARGE = SIZES["openai/whisper-large-v3"]
H100 = parse("1xH100", cpu_flops).device


def test_compute_is_shared_out_in_micro_batches(make_setup: MakeSetup) -> None:
    setup = make_setup(shape=LARGE, strategy="lora", precision="bf16", gpu=True)
    one, four = step_time(setup, H100, 1), step_time(setup, H100, 4)
    assert four.compute_s == pytest.approx(4 * one.compute_s)
    assert four.communication_s == one.communication_s == 0.0  # one worker
    assert one.total_s == one.compute_s + one.optimiser_s


def test_checkpointing_costs_about_another_forward_pass(make_setup: MakeSetup) -> None:
    kept = flops(make_setup(shape=LARGE, strategy="full"))
    repeated = flops(make_setup(shape=LARGE, strategy="full", checkpointing=True))
    assert repeated.forward == kept.forward
    assert 0.6 < (repeated.backward - kept.backward) / kept.forward <= 1.0


def test_small_products_take_a_gpu_as_long_as_their_launches(make_setup: MakeSetup) -> None:
    """An H200 took a hundred times as long for a step of base as its operations alone would."""
    base = SIZES["openai/whisper-base"]
    small = make_setup(shape=base, batch=BatchShape(8, 100, 16), strategy="lora", precision="bf16", gpu=True)
    large = make_setup(shape=LARGE, batch=BatchShape(64, 1500, 128), strategy="full", precision="bf16", gpu=True)
    assert step_time(small, H100, 1).compute_s == launches_s(small) > 10 * flops(small).total / H100.half
    assert step_time(large, H100, 1).compute_s > launches_s(large)
    assert launches_s(make_setup(shape=base, gpu=False)) == 0.0


def test_a_frozen_encoder_is_the_least_work(make_setup: MakeSetup) -> None:
    counts = {name: flops(make_setup(shape=LARGE, strategy=name)).total for name in ("frozen_encoder", "lora", "full")}
    assert counts["frozen_encoder"] < counts["lora"] < counts["full"]


def test_zero3_sends_weights_and_ddp_only_gradients(make_setup: MakeSetup) -> None:
    given = {"shape": LARGE, "precision": "bf16", "workers": 4, "strategy": "lora"}
    ddp = make_setup(parallelism="ddp", **given)
    assert communicated_bytes(ddp, 3) == pytest.approx(2 * 3 / 4 * 4 * trained_parameters(ddp))
    zero3 = make_setup(parallelism="zero3", **given)
    weights = 3 * 3 / 4 * 2 * 2 * LARGE.parameters  # micro-batches, share of the others, passes, bytes
    assert communicated_bytes(zero3, 3) == pytest.approx(weights, rel=0.05)


def test_offloading_makes_the_optimiser_slower(make_setup: MakeSetup) -> None:
    given = {"shape": LARGE, "strategy": "full", "precision": "bf16", "workers": 4, "parallelism": "zero2", "gpu": True}
    here, there = make_setup(**given), make_setup(offload="cpu", **given)
    assert step_time(there, H100, 1).optimiser_s > 10 * step_time(here, H100, 1).optimiser_s


def test_this_machine_multiplies() -> None:
    assert 1e8 < cpu_flops() < 1e14
