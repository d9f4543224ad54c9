"""Which ways fit, which do not and why, and which is the cheapest."""

from __future__ import annotations

from typing import Any

import pytest

from asr.models.whisper.shapes import SIZES
from cluster.gpus import parse
from train.capacity.options import Option, cheapest, options, setup_of
from train.config import TrainConfig

pytestmark = pytest.mark.medium

LARGE, BASE = SIZES["openai/whisper-large-v3"], SIZES["openai/whisper-base"]


def config(**changes: Any) -> TrainConfig:
    given = {"base": "openai/whisper-large-v3", "data": {"train": "train.jsonl"}, "precision": "bf16"}
    given |= {"batching": {"max_audio_s": 60}}
    return TrainConfig.model_validate(given | changes)


def found(gpus: str, hours: float | None = None, shape: Any = LARGE, **changes: Any) -> list[Option]:
    return options(config(**changes), shape, parse(gpus, lambda: 1e11), hours)


def reason(rows: list[Option], strategy: str, parallelism: str = "ddp", offload: str = "none") -> str:
    wanted = (strategy, parallelism, offload)
    setups = [(row.setup.strategy, row.setup.parallelism, row.setup.offload) for row in rows]
    return rows[setups.index(wanted)].reason


def test_every_strategy_meets_every_parallelism() -> None:
    rows = found("4x24GB")
    ways = {(row.setup.strategy, row.setup.parallelism, row.setup.offload) for row in rows}
    assert len(rows) == len(ways) == 5 * 6  # ddp, zero1, zero2, zero3, and offloading with the last two


def test_what_fits_comes_first_and_by_cost() -> None:
    rows = found("4x24GB")
    fitting = [row for row in rows if not row.reason]
    assert rows[: len(fitting)] == fitting
    costs = [row.device_hours for row in fitting]
    assert costs == sorted(costs)
    assert all(row.memory.peak < 24 * 2**30 for row in fitting)


def test_a_full_fine_tune_of_the_large_model_takes_more_than_one_small_gpu() -> None:
    alone, together = found("1x24GB"), found("4x24GB")
    assert "most of it optimiser states" in reason(alone, "full")
    assert reason(alone, "lora") == ""
    assert reason(together, "full", "zero3") == ""


def test_checkpointing_is_tried_where_a_way_does_not_fit_without() -> None:
    roomy, tight = (next(row for row in found(gpus) if row.setup.strategy == "lora") for gpus in ("1xH100", "1x10GB"))
    assert not roomy.setup.checkpointing
    assert tight.setup.checkpointing
    assert tight.reason == ""


def test_one_worker_has_nobody_to_share_with_but_the_host() -> None:
    rows = found("1xH100")
    assert "nobody to share with" in reason(rows, "full", "zero2")
    assert reason(rows, "full", "zero2", "cpu") == ""


@pytest.mark.parametrize(
    ("gpus", "changes", "way", "why"),
    [
        ("2xCPU-16GB", {}, ("qlora",), "take a GPU"),
        ("2xCPU-16GB", {}, ("full", "zero2", "cpu"), "no other memory"),
        ("2x24GB", {}, ("qlora", "zero3"), "cannot share out 4-bit"),
        ("2xT4", {}, ("lora",), "T4 has no bf16: set precision=fp16"),
        (
            "2x24GB",
            {"workers": {"elastic": {"max": 2}}, "batching": {"micro_batches_per_step": 2}},
            ("lora", "zero1"),
            "ddp",
        ),
        ("2xCPU-16GB", {"precision": "fp16", "workers": {"gpu": True}}, ("lora",), "fp16 takes a GPU"),
    ],
)
def test_what_cannot_run_says_why(gpus: str, changes: dict[str, Any], way: tuple[str, ...], why: str) -> None:
    assert why in reason(found(gpus, **changes), *way)


def test_nothing_fits_where_there_is_no_room() -> None:
    assert cheapest(found("1x1GB")) is None


def test_the_cheapest_is_the_simplest_of_those_that_cost_alike() -> None:
    rows = found("4xH100")
    best, lora = cheapest(rows), cheapest(rows, "lora")
    assert best is not None
    assert lora is not None
    assert lora.setup.strategy == "lora"
    assert lora.setup.parallelism == "ddp"
    assert best.device_hours <= 1.05 * min(row.device_hours for row in rows if not row.reason)


def test_hours_of_audio_stand_in_for_steps() -> None:
    by_steps, by_hours = found("1xH100", optim={"max_steps": 300}), found("1xH100", hours=10.0)
    assert by_steps[0].steps == 300
    assert by_hours[0].steps == 600  # of 60 s each
    assert by_hours[0].hours == pytest.approx(600 * by_hours[0].time.total_s / 3600)


def test_micro_batches_are_rounded_up_to_the_workers_and_said_so() -> None:
    rows = found("4x24GB", batching={"micro_batches_per_step": 6}, workers={"count": 1})
    assert rows[0].settings["batching.micro_batches_per_step"] == 8
    assert rows[0].setup.accumulates


def test_settings_are_a_configuration_that_is_accepted() -> None:
    for row in found("4x24GB", workers={"gpu": True}):
        if not row.reason:
            tree: dict[str, Any] = {}
            for key, value in row.settings.items():
                section, _, name = key.rpartition(".")
                (tree.setdefault(section, {}) if section else tree)[name] = value
            assert config(**tree).strategy == row.setup.strategy


def test_a_micro_batch_is_taken_at_its_bounds() -> None:
    fleet = parse("1xH100", lambda: 1e11)
    batch = setup_of(config(batching={"max_clips": 8, "max_audio_s": 60, "max_tokens": 1024}), LARGE, fleet).batch
    assert (batch.clips, batch.positions, batch.tokens) == (8, 375, 128)
    few = setup_of(config(batching={"max_clips": 1, "max_audio_s": 60, "max_tokens": 1024}), LARGE, fleet).batch
    assert (few.positions, few.tokens) == (1500, 448)  # no more than Whisper has positions for
