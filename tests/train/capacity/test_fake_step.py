"""Steps without numbers, held against Whisper's formula, against real networks, and against the verb that asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from asr.errors import UserError
from asr.models.capacity import Adapters, BatchShape
from asr.models.whisper.shapes import SIZES, NetworkShape
from tests.train.capacity.networks import SMALL, MakeSetup, measured_bytes, saved_bytes, write_folder
from train.capacity.cli import plan
from train.capacity.fake_step import FakeNetwork
from train.capacity.memory import memory
from train.capacity.speed import flops

TINY = NetworkShape(mels=80, width=64, encoder_layers=1, decoder_layers=1, heads=2, hidden=256, vocabulary=1000)
ATTENTION_ONLY = Adapters(rank=8, dropout=0.05, target_modules=("q_proj", "v_proj"))
WAYS = (
    ("tiny", "full", "fp32", False, False),
    ("tiny", "dora", "fp32", False, False),
    ("base", "frozen_encoder", "bf16", False, False),
    ("base", "full", "bf16", False, True),
    ("base", "qlora", "bf16", False, True),
    ("large-v3", "lora", "bf16", False, True),
    ("large-v3", "full", "bf16", True, True),
)


@pytest.mark.medium
@pytest.mark.parametrize(("size", "strategy", "precision", "checkpointing", "gpu"), WAYS)
def test_it_agrees_with_whispers_formula(
    make_setup: MakeSetup,
    random_checkpoint: Path,
    tmp_path: Path,
    size: str,
    strategy: str,
    precision: str,
    checkpointing: bool,
    gpu: bool,
) -> None:
    shape = SIZES[f"openai/whisper-{size}"]
    network = FakeNetwork(write_folder(shape, random_checkpoint, tmp_path / size))
    given: dict[str, Any] = {"strategy": strategy, "precision": precision, "checkpointing": checkpointing, "gpu": gpu}
    given |= {"batch": BatchShape(4, 375, 48), "adapters": ATTENTION_ONLY}
    told, played = make_setup(shape=shape, **given), make_setup(shape=network, **given)
    assert saved_bytes(played) == pytest.approx(saved_bytes(told), rel=0.01)
    assert memory(played).peak == pytest.approx(memory(told).peak, rel=0.03)
    assert flops(played) == flops(told)
    assert network.trained_parameters(played) == shape.trained_parameters(told)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("strategy", "precision", "checkpointing"),
    [("full", "fp32", False), ("lora", "bf16", False), ("full", "bf16", True)],
)
def test_it_saves_exactly_what_a_real_network_saves(
    make_setup: MakeSetup, random_checkpoint: Path, tmp_path: Path, strategy: str, precision: str, checkpointing: bool
) -> None:
    network = FakeNetwork(write_folder(SMALL, random_checkpoint, tmp_path / "small"))
    given = {"strategy": strategy, "precision": precision, "checkpointing": checkpointing}
    told = make_setup(**given)
    # Without a cache transformers makes a mask of tokens x tokens of fake tokens, but none of real ones.
    mask = told.batch.clips * told.batch.tokens**2 if checkpointing else 0
    assert saved_bytes(make_setup(shape=network, **given)) == measured_bytes(told) + mask


def test_its_size_is_the_networks(random_checkpoint: Path, tmp_path: Path) -> None:
    network = FakeNetwork(write_folder(SMALL, random_checkpoint, tmp_path / "small"))
    assert (network.parameters, network.width, network.gathered) == (SMALL.parameters, SMALL.width, SMALL.gathered)
    assert sorted(map(str, network.linears)) == sorted(map(str, SMALL.linears))
    assert (network.max_positions, network.max_tokens) == (SMALL.max_positions, SMALL.max_tokens)


@pytest.mark.medium
def test_a_network_that_asks_for_a_number_is_refused(
    make_setup: MakeSetup, random_checkpoint: Path, tmp_path: Path
) -> None:
    """Whisper does where layers are dropped at random."""
    folder = write_folder(TINY, random_checkpoint, tmp_path / "dropping", encoder_layerdrop=0.1)
    setup = make_setup(shape=FakeNetwork(folder), strategy="full")
    with pytest.raises(UserError, match="cannot be told in advance: it asks for a number"):
        saved_bytes(setup)


def test_what_its_processor_reads_is_needed(random_checkpoint: Path, tmp_path: Path) -> None:
    folder = write_folder(TINY, random_checkpoint, tmp_path / "bare")
    (folder / "generation_config.json").unlink()
    with pytest.raises(UserError, match=r"has no generation_config.json"):
        FakeNetwork(folder).max_tokens  # noqa: B018


@pytest.mark.slow
def test_plan_asks_it_where_there_is_no_formula(
    random_checkpoint: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = write_folder(TINY, random_checkpoint, tmp_path / "tiny")
    file = tmp_path / "run.yaml"
    file.write_text(f"base: {folder}\ndata: {{train: train.jsonl}}\n")
    app = typer.Typer()
    app.command()(plan)

    def options() -> dict[tuple[str, ...], dict[str, object]]:
        done = CliRunner().invoke(app, [str(file), "--gpus", "1xCPU-16GB", "--json"], catch_exceptions=False)
        rows = json.loads(done.stdout)["options"]
        return {(row["strategy"], row["parallelism"], row["offload"]): row for row in rows}

    told = options()
    request.getfixturevalue("no_formula")
    played = options()
    assert {way: row["reason"] for way, row in played.items()} == {way: row["reason"] for way, row in told.items()}
    for way, row in played.items():
        assert row["peak_bytes"] == pytest.approx(told[way]["peak_bytes"], rel=0.03)
        assert row != told[way]  # the formula is not asked
