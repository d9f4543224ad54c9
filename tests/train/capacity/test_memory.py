"""The peak of a step: what it grows and falls with, and real training steps in processes of their own."""

from __future__ import annotations

from itertools import pairwise

import pytest

from asr.models.capacity import BatchShape
from asr.models.whisper.shapes import SIZES
from benchmarks.memory import Case, measure, measure_each
from tests.train.capacity.networks import MakeSetup, saved_bytes, trainable
from train.capacity.memory import memory, trained_parameters

LARGE = SIZES["openai/whisper-large-v3"]
STRATEGIES = ("full", "frozen_encoder", "lora", "dora")


@pytest.mark.medium
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trained_parameters_are_those_that_require_gradients(make_setup: MakeSetup, strategy: str) -> None:
    setup = make_setup(strategy=strategy)
    weights = {id(weight): weight for weight in trainable(setup).parameters() if weight.requires_grad}
    assert trained_parameters(setup) == sum(weight.numel() for weight in weights.values())


def test_a_full_fine_tune_in_float32_keeps_sixteen_bytes_a_weight(make_setup: MakeSetup) -> None:
    found = memory(make_setup(shape=LARGE, batch=BatchShape(1, 50, 8), strategy="full", gpu=True))
    assert found.weights + found.optimiser + found.gradients == pytest.approx(16 * LARGE.parameters, rel=0.01)


def test_each_stage_of_zero_needs_less_than_the_one_before(make_setup: MakeSetup) -> None:
    stages = ("ddp", "zero1", "zero2", "zero3")
    peaks = [
        memory(make_setup(shape=LARGE, strategy="full", precision="bf16", workers=8, parallelism=stage, gpu=True)).peak
        for stage in stages
    ]
    assert all(later < earlier for earlier, later in pairwise(peaks))


def test_offloading_moves_the_optimiser_to_the_host(make_setup: MakeSetup) -> None:
    given = {"shape": LARGE, "strategy": "full", "precision": "bf16", "workers": 4, "gpu": True}
    here = memory(make_setup(parallelism="zero2", **given))
    there = memory(make_setup(parallelism="zero2", offload="cpu", **given))
    assert (here.host, there.optimiser) == (0, 0)
    assert there.host >= here.optimiser > 0
    assert there.peak < here.peak - 0.9 * here.optimiser
    weights_too = memory(make_setup(parallelism="zero3", offload="cpu", **given))
    assert weights_too.weights < there.weights
    assert weights_too.host > there.host


def test_checkpointing_trades_what_is_saved_for_one_layer_at_a_time(make_setup: MakeSetup) -> None:
    given = {"shape": LARGE, "batch": BatchShape(8, 1500, 128), "strategy": "lora"}
    kept, repeated = make_setup(**given), make_setup(checkpointing=True, **given)
    assert saved_bytes(repeated) < saved_bytes(kept) / 20
    assert memory(repeated).activations < memory(kept).activations / 5


def test_quantised_weights_take_about_half_a_byte(make_setup: MakeSetup) -> None:
    plain = memory(make_setup(shape=LARGE, strategy="lora", precision="bf16", gpu=True)).weights
    quantised = memory(make_setup(shape=LARGE, strategy="qlora", precision="bf16", gpu=True)).weights
    linear = sum(layer.inputs * layer.outputs for layer in LARGE.linears)
    assert plain - quantised == pytest.approx((2 - 0.516) * linear, rel=0.01)


def test_gradients_that_wait_for_the_next_micro_batch_are_there_at_the_loss(make_setup: MakeSetup) -> None:
    given = {"shape": SIZES["openai/whisper-base"], "batch": BatchShape(8, 375, 48), "strategy": "full"}
    once, again = memory(make_setup(**given)), memory(make_setup(accumulates=True, **given))
    assert again.peak > once.peak
    assert again.gradients == pytest.approx(4 * trained_parameters(make_setup(**given)), rel=0.001)


def test_workers_of_ddp_copy_gradients_into_buckets(make_setup: MakeSetup) -> None:
    given = {"shape": LARGE, "strategy": "full", "gpu": True}
    alone, together = memory(make_setup(**given)), memory(make_setup(workers=2, **given))
    assert together.peak - alone.peak == 4 * trained_parameters(make_setup(**given))


SMALL = (
    Case("full", "tiny", clips=2),
    Case("frozen_encoder", "tiny", checkpointing=True, clips=2),
    Case("lora", "tiny", checkpointing=True, clips=2),
    Case("dora", "tiny", clips=2),
)


@pytest.mark.slow
def test_the_prediction_is_within_15_percent_of_real_processes() -> None:
    found = measure_each(SMALL, threads=1)
    assert [one["case"] for one in found] == [case.name for case in SMALL]
    assert [one for one in found if abs(one["error"]) > 0.15] == []


@pytest.mark.long
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_prediction_is_within_15_percent_of_a_real_process_on_a_larger_size(
    strategy: str, checkpointing: bool
) -> None:
    found = measure(Case(strategy, checkpointing=checkpointing), threads=2)
    assert abs(found["error"]) <= 0.15, found
