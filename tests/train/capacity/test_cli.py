"""`plan` as a person calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from asr.errors import UserError
from train.capacity.cli import plan

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Call the verb on a small configuration and return what it prints."""
    file = tmp_path / "run.yaml"
    file.write_text(
        "base: openai/whisper-large-v3\nprecision: bf16\ndata: {train: train.jsonl}\nworkers: {gpu: true}\n"
    )
    app = typer.Typer()
    app.command()(plan)

    def call(*words: str) -> str:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(file), *words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


@pytest.mark.medium
def test_it_prints_every_way_and_ends_with_what_to_set(run: Run) -> None:
    printed = run("--gpus", "4x24GB", "--price", "1.2")
    lines = printed.splitlines()
    assert lines[0].startswith("openai/whisper-large-v3: 1543 M weights, bf16")
    assert "4 x 24GB (taken for RTX3090)" in lines[0]
    assert "cost" in printed
    assert "most of it optimiser" in printed  # why the others do not
    assert any(line.startswith("cheapest that fits: strategy=") for line in lines)
    assert "workers.count=4 workers.gpu=true" in printed


@pytest.mark.medium
def test_json_has_the_same(run: Run) -> None:
    found = json.loads(run("--gpus", "4x24GB", "--price", "2", "--json"))
    assert found["parameters"] == 1543490560
    assert len(found["options"]) == 30
    assert found["cheapest"] in found["options"]
    assert found["cheapest_as_configured"]["strategy"] == "lora"
    best = found["cheapest"]
    assert best["cost"] == pytest.approx(2 * best["device_hours"])
    assert best["peak_bytes"] == sum(
        best["memory"][part] for part in ("weights", "optimiser", "gradients", "activations", "framework")
    )
    assert all(option["fits"] == (not option["reason"]) for option in found["options"])


def test_settings_of_the_command_line_count(run: Run) -> None:
    printed = run("base=openai/whisper-tiny", "strategy=full", "--gpus", "1xT4", "precision=fp16")
    assert printed.startswith("openai/whisper-tiny: 38 M weights, fp16")
    assert "with strategy=full, as configured: strategy=full" in printed


@pytest.mark.medium
def test_where_nothing_fits_it_says_what_to_lower(run: Run) -> None:
    assert "cheapest that fits: nothing; lower batching.max_audio_s" in run("--gpus", "1x1GB")


def test_unknown_devices_are_a_users_mistake(run: Run) -> None:
    with pytest.raises(UserError, match="--gpus 3xZ80"):
        run("--gpus", "3xZ80")


@pytest.mark.medium
def test_the_configurations_price_holds_where_none_is_given(run: Run) -> None:
    asked = ["workers.price_per_hour=3", "--gpus", "4x24GB", "--json"]
    best = json.loads(run(*asked))["cheapest"]
    assert best["cost"] == pytest.approx(3 * best["device_hours"])
    assert best["audio_hours_per_device_hour"] > 1
    best = json.loads(run(*asked, "--price", "0.5"))["cheapest"]
    assert best["cost"] == pytest.approx(0.5 * best["device_hours"])
    assert "cost" in run(*asked[:3])


@pytest.mark.slow
def test_a_new_head_is_planned_by_the_name_of_its_base(run: Run) -> None:
    printed = run("base=openai/whisper-tiny", "head=ctc", "--gpus", "1xCPU-16GB", "precision=fp32", "workers.gpu=false")
    assert printed.startswith("openai/whisper-tiny: 8 M weights, fp32")
    assert "cheapest that fits: strategy=" in printed
