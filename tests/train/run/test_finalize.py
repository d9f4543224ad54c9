from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from ray.train import Checkpoint
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from asr.config import resolve
from asr.models.artifact import CARD, README, load_model, merge_adapter, verified_card
from asr.models.checkpoint import find_checkpoint
from asr.models.family import SpeechModel, load_checkpoint
from asr.models.head import InitialModel
from asr.models.model_card import CURVE
from tests.asr.tiny_whisper import logits
from tests.train.evaluation.test_schedule import scored
from tests.train.tracking.test_history import add, at
from train.callbacks.checkpoint_report import STATE
from train.config import TrainConfig
from train.events import Failed
from train.run.finalize import hand_over
from train.tracking.history import History
from train.trainer.adapter import adapt
from train.trainer.strategy import Strategy

TOTALS = {"step": 7, "seconds": 3.5, "audio_s": 60.0, "wait_s": 0.5, "quarantined": []}
DATA = {"fingerprint": "sha256:1", "clips": 24, "quarantined": {"missing_file": 2}}


def config(strategy: Strategy, *settings: str, base: str = "builtin:tiny.en") -> TrainConfig:
    plain = [f"base={base}", "data.train=train.jsonl", f"strategy={strategy}", "lora.rank=2"]
    return resolve(TrainConfig, None, [*plain, *settings]).value


def checkpoint(model: SpeechModel, settings: TrainConfig, folder: Path, step: int = 7) -> Checkpoint:
    """A checkpoint as transformers' trainer leaves it, with weights that are not those of the base."""
    network = adapt(copy.deepcopy(model.network), settings.strategy, settings.lora)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight += 0.01 * step / 7 * torch.ones_like(weight)
    network.save_pretrained(folder)
    (folder / STATE).write_text(json.dumps(TOTALS | {"step": step}))
    return Checkpoint.from_directory(folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_full_fine_tune_loads_in_plain_transformers(english_model: SpeechModel, out: Path, tmp_path: Path) -> None:
    settings = config("full")
    card = hand_over(
        out, settings, InitialModel(settings.base), DATA, checkpoint(english_model, settings, tmp_path / "last")
    )
    network, info = WhisperForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    written = json.loads((out / "config.json").read_text())
    assert written["architectures"] == ["WhisperForConditionalGeneration"]
    WhisperProcessor.from_pretrained(out)
    ours = load_model(str(out))
    assert card.weights == "full"
    weights = ours.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert not torch.equal(network.model.encoder.conv1.weight, english_model.network.model.encoder.conv1.weight)
    assert network.generation_config.suppress_tokens == english_model.network.generation_config.suppress_tokens


def test_an_adapter_comes_with_a_card_of_what_it_is(english_model: SpeechModel, out: Path, tmp_path: Path) -> None:
    settings = config("lora", "language=en")
    card = hand_over(
        out, settings, InitialModel(settings.base), DATA, checkpoint(english_model, settings, tmp_path / "last")
    )
    assert (card.weights, card.language, card.short_context) == ("adapter", "en", True)
    assert (card.base.name, card.base.digest) == ("builtin:tiny.en", english_model.digest)
    assert card.data == DATA
    told = dict(card.training)
    assert told.pop("cost")["device_hours"] == pytest.approx(3.5 / 3600)
    assert told == {name: TOTALS[name] for name in ("step", "seconds", "audio_s", "wait_s")}
    assert TrainConfig.model_validate(card.config) == settings
    written = json.loads((out / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "openai/whisper-tiny.en"
    model = load_model(str(out))
    assert (model.language, model.short_context) == ("en", True)
    changed = (
        model.network.model.decoder.layers[0].fc1.weight - english_model.network.model.decoder.layers[0].fc1.weight
    )
    assert changed.abs().max() > 0


def test_trained_in_full_windows_only_is_not_called_short(
    english_model: SpeechModel, out: Path, tmp_path: Path
) -> None:
    settings = config("lora", "batching.full_window_share=1.0")
    last = checkpoint(english_model, settings, tmp_path / "last")
    assert not hand_over(out, settings, InitialModel(settings.base), DATA, last).short_context


@pytest.mark.medium
def test_language_and_task_are_in_the_generation_config_of_a_multilingual_model(out: Path, tmp_path: Path) -> None:
    settings = config("lora", "language=it", base="builtin:base")
    model = load_model("builtin:base")
    hand_over(out, settings, InitialModel(settings.base), DATA, checkpoint(model, settings, tmp_path / "last"))
    written = json.loads((out / "generation_config.json").read_text())
    assert (written["language"], written["task"]) == ("it", "transcribe")


def test_a_checkpoint_that_lacks_something_leaves_no_artifact(
    english_model: SpeechModel, out: Path, tmp_path: Path
) -> None:
    settings = config("lora")
    last = checkpoint(english_model, settings, tmp_path / "last")
    (tmp_path / "last" / STATE).unlink()
    with pytest.raises(FileNotFoundError):
        hand_over(out, settings, InitialModel(settings.base), DATA, last)
    assert not (out / CARD).exists()


def test_the_best_weights_are_handed_over_with_the_account_of_all(
    english_model: SpeechModel, out: Path, tmp_path: Path
) -> None:
    settings = config("lora")
    last = checkpoint(english_model, settings, tmp_path / "last")
    best = checkpoint(english_model, settings, tmp_path / "best", step=4)
    history = History(str(tmp_path))
    history.add_scored(scored(0, 0.2, "retention"))
    for step in range(1, 8):
        add(history, at(step))
    for step, wer in ((4, 0.1), (7, 0.15)):
        history.add_scored(scored(step, wer))
        history.add_scored(scored(step, 0.2 + step / 100, "retention"))
    card = hand_over(out, settings, InitialModel(settings.base), DATA, last, best, history.path)
    handed = load_file(out / "adapter_model.safetensors")
    kept = load_file(tmp_path / "best" / "adapter_model.safetensors")
    assert all(torch.equal(weight, kept[name]) for name, weight in handed.items())
    assert (card.training["step"], card.training["last_step"], card.training["seconds"]) == (4, 7, 3.5)
    assert len(card.training["evaluations"]) == 5
    assert card.training["retention"]["loss"] == pytest.approx(0.04)
    assert [row["label"] for row in card.evaluations][-1] == "validation sample, step 4"
    assert CURVE in verified_card(out).files
    readme = (out / README).read_text()
    assert f"![learning curve]({CURVE})" in readme
    assert "Retention, WER on other speech: 20.0% before, 24.0% after: +4.0%." in readme


def test_a_run_that_was_not_scored_has_a_curve_of_its_loss(
    english_model: SpeechModel, out: Path, tmp_path: Path
) -> None:
    settings = config("lora")
    history = History(str(tmp_path))
    add(history, at(1))
    card = hand_over(
        out,
        settings,
        InitialModel(settings.base),
        DATA,
        checkpoint(english_model, settings, tmp_path / "last"),
        history=history.path,
    )
    assert CURVE in card.files
    assert (card.training["step"], card.evaluations) == (7, [])
    assert "evaluations" not in card.training


def test_a_card_and_its_page_tell_which_evaluations_failed(
    english_model: SpeechModel, out: Path, tmp_path: Path
) -> None:
    every_four = ["run.checkpoint_every_steps=4", "evaluation.every_steps=4"]
    settings = config("lora", "data.validation=v.jsonl", "data.retention=r.jsonl", *every_four)
    history = History(str(tmp_path))
    add(history, at(1))
    for step in (0, 4, 7):
        history.add_failed(Failed(step, "data.retention: none of 3 utterances can be evaluated"))
    for step in (4, 7):
        history.add_scored(scored(step, 0.2))
    card = hand_over(
        out,
        settings,
        InitialModel(settings.base),
        DATA,
        checkpoint(english_model, settings, tmp_path / "last"),
        history=history.path,
    )
    assert [one["step"] for one in card.training["failed_evaluations"]] == [0, 4, 7]
    assert "retention" not in card.training
    assert "Evaluations that failed, at steps 0, 4, 7, the last of them: data.ret" in (out / README).read_text()


def test_a_run_on_an_artifact_hands_over_its_child(english_model: SpeechModel, tmp_path: Path) -> None:
    """Its adapter is for the parent's merged weights, and nothing else: a copy of the parent goes with it."""
    first, parent, child = config("lora"), tmp_path / "parent", tmp_path / "child"
    parent.mkdir()
    child.mkdir()
    hand_over(parent, first, InitialModel(first.base), DATA, checkpoint(english_model, first, tmp_path / "first"))
    second = config("lora", "seed=1", base=str(parent))
    merged = load_checkpoint(find_checkpoint(str(parent)))
    card = hand_over(
        child, second, InitialModel(second.base), DATA, checkpoint(merged, second, tmp_path / "second", step=14)
    )
    assert card.base.name == str(parent)
    assert [one.name for one in card.lineage] == [str(parent), "builtin:tiny.en"]
    assert card.lineage[1].digest == english_model.digest
    shutil.rmtree(parent)
    network = load_model(str(child)).network
    assert not torch.allclose(logits(network), logits(merged.network), atol=1e-3)
    assert not torch.allclose(logits(network), logits(merge_adapter(load_model("builtin:tiny.en"), child).network))
