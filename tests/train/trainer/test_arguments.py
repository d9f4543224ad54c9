from __future__ import annotations

from pathlib import Path

import pytest

from asr.config import resolve
from train.config import TrainConfig
from train.trainer.arguments import arguments


def config(*settings: str) -> TrainConfig:
    return resolve(TrainConfig, None, ["base=none", "data.train=none.jsonl", *settings]).value


def test_transformers_arguments_come_from_the_configuration(tmp_path: Path) -> None:
    settings = [
        "optim.max_steps=9",
        "optim.warmup_steps=1",
        "batching.micro_batches_per_step=6",
        "workers.count=2",
        "precision=bf16",
        "seed=5",
    ]
    derived = arguments(config(*settings, "optim.schedule=cosine"), tmp_path, 2)
    assert (derived.max_steps, derived.gradient_accumulation_steps, derived.seed) == (9, 3, 5)
    assert (derived.bf16, derived.use_cpu, derived.lr_scheduler_type) == (True, True, "cosine")


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", (False, False)), ("bf16", (True, False)), ("fp16", (False, True))]
)
def test_precision_is_one_key_of_ours_and_two_of_theirs(
    precision: str, expected: tuple[bool, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr("train.trainer.arguments.Seq2SeqTrainingArguments", lambda **given: seen.update(given))
    arguments(config(f"precision={precision}", "workers.gpu=true"), tmp_path, 1)
    assert (seen["bf16"], seen["fp16"], seen["use_cpu"]) == (*expected, False)


def test_activations_are_computed_again_without_cutting_gradients_off(tmp_path: Path) -> None:
    derived = arguments(config("activation_checkpointing=true"), tmp_path, 1)
    assert derived.activation_checkpointing
    assert derived.activation_checkpointing_kwargs == {"use_reentrant": False}


def test_torch_compile_is_asked_for_by_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")  # where transformers writes it
    assert not arguments(config(), tmp_path, 1).torch_compile
    assert arguments(config("compile=true"), tmp_path, 1).torch_compile
