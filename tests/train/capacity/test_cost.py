"""The price of a run: what was planned and what was spent, by one formula."""

from __future__ import annotations

import pytest

from asr.config import resolve
from cluster.gpus import parse
from train.capacity.cost import Cost, described, planned, spent
from train.capacity.options import cheapest, options
from train.capacity.shapes import shape_of
from train.config import TrainConfig

PLAIN = ["base=openai/whisper-tiny", "data.train=train.jsonl"]


def config(*settings: str) -> TrainConfig:
    return resolve(TrainConfig, None, [*PLAIN, *settings]).value


def test_a_run_that_took_what_was_planned_costs_what_was_planned() -> None:
    asked = config("workers={gpu: true, count: 4, price_per_hour: 2}", "batching.micro_batches_per_step=4")
    option = cheapest(options(asked, shape_of(asked.base), parse("4xT4", lambda: 1e9)), "lora")
    assert option is not None
    plan = planned(option, asked)
    assert plan.device_hours == option.device_hours
    seconds = option.steps * option.time.total_s
    totals = {"seconds": seconds, "held_s": seconds, "device_s": 4 * seconds, "audio_s": plan.audio_s}
    assert spent(asked, totals).summary() == pytest.approx(plan.summary())
    assert plan.money == pytest.approx(2 * option.device_hours)
    assert planned(option, asked, 3.0).money == pytest.approx(3 * option.device_hours)


def test_what_is_held_is_paid_and_what_is_in_steps_is_told() -> None:
    totals = {"seconds": 1800.0, "evaluation_s": 360.0, "held_s": 3600.0, "device_s": 7200.0, "audio_s": 72_000.0}
    cost = spent(
        config("workers={count: 2, cpus_each: 3, price_per_hour: 0.5}", "batching.micro_batches_per_step=2"), totals
    )
    found = cost.summary()
    assert (found["devices"], found["device_hours"], found["core_hours"]) == ("CPU worker of 3 cores", 2.0, 6.0)
    assert found["device_hours_in_steps"] == pytest.approx(0.8)
    assert found["audio_hours_per_device_hour"] == 10.0
    assert found["cost"] == 1.0
    said = "6.000 core-hours, 40% of them in steps; 10.0 audio hours per worker-hour, cost 1.00 at 0.5 a worker-hour"
    assert described(found) == said


def test_without_a_price_there_is_no_money() -> None:
    found = spent(config("workers.gpu=true"), {"seconds": 36.0, "audio_s": 360.0}).summary()
    assert found["cost"] is None and "core_hours" not in found
    assert described(found) == "0.010 GPU-hours, 100% of them in steps; 10.0 audio hours per GPU-hour"


def test_a_run_without_a_step_has_no_speed() -> None:
    assert Cost(0.0, 0.0, 0.0, gpu=True).audio_per_device == 0.0
    assert "0.000 GPU-hours, 0% of them" in described(Cost(0.0, 0.0, 0.0, gpu=True).summary())
