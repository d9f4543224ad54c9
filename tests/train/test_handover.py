from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from ray.train import Checkpoint
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from asr.artifact import CARD, load_model
from asr.config import resolve
from asr.model import SpeechModel
from asr.utterance import Utterance
from train.adapter import Strategy, adapt
from train.config import TrainConfig
from train.handover import hand_over
from train.prepare import fingerprint
from train.trainer import STATE

FAULTS = ["missing_file: a: b.flac: no such file", "missing_file: c", "too_long: special_token: d"]
TOTALS = {"step": 7, "seconds": 3.5, "audio_s": 60.0, "wait_s": 0.5, "faults": FAULTS}


def config(strategy: Strategy, *settings: str, base: str = "builtin:tiny.en") -> TrainConfig:
    plain = [f"base={base}", "data.train=train.jsonl", f"strategy={strategy}", "lora.rank=2"]
    return resolve(TrainConfig, None, [*plain, *settings]).value


def checkpoint(model: SpeechModel, settings: TrainConfig, folder: Path) -> Checkpoint:
    """A checkpoint as transformers' trainer leaves it, with weights that are not those of the base."""
    network = adapt(copy.deepcopy(model.network), settings.strategy, settings.lora)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight += 0.01 * torch.ones_like(weight)
    network.save_pretrained(folder)
    (folder / STATE).write_text(json.dumps(TOTALS))
    return Checkpoint.from_directory(folder)


def test_a_full_fine_tune_loads_in_plain_transformers(
    english_model: SpeechModel, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    settings = config("full")
    card = hand_over(tmp_path / "out", settings, flac_clips, checkpoint(english_model, settings, tmp_path / "last"))
    network, info = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["architectures"] == ["WhisperForConditionalGeneration"]
    WhisperProcessor.from_pretrained(tmp_path / "out")
    ours = load_model(str(tmp_path / "out"))
    assert card.weights == "full"
    weights = ours.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert not torch.equal(network.model.encoder.conv1.weight, english_model.network.model.encoder.conv1.weight)
    assert network.generation_config.suppress_tokens == english_model.network.generation_config.suppress_tokens


def test_an_adapter_comes_with_a_card_of_what_it_is(
    english_model: SpeechModel, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    settings = config("lora", "language=en")
    card = hand_over(tmp_path / "out", settings, flac_clips, checkpoint(english_model, settings, tmp_path / "last"))
    assert (card.weights, card.language, card.short_context) == ("adapter", "en", True)
    assert (card.base.name, card.base.digest) == ("builtin:tiny.en", english_model.digest)
    assert card.data["faults"] == {"missing_file": 2, "too_long": 1}
    assert (card.data["clips"], card.data["fingerprint"]) == (len(flac_clips), fingerprint(flac_clips))
    assert card.training == {name: TOTALS[name] for name in ("step", "seconds", "audio_s", "wait_s")}
    assert TrainConfig.model_validate(card.config) == settings
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "openai/whisper-tiny.en"
    model = load_model(str(tmp_path / "out"))
    assert (model.language, model.short_context) == ("en", True)
    changed = (
        model.network.model.decoder.layers[0].fc1.weight - english_model.network.model.decoder.layers[0].fc1.weight
    )
    assert changed.abs().max() > 0


def test_trained_in_full_windows_only_is_not_called_short(
    english_model: SpeechModel, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    settings = config("lora", "plan.full_window_share=1.0")
    last = checkpoint(english_model, settings, tmp_path / "last")
    assert not hand_over(tmp_path / "out", settings, flac_clips, last).short_context


def test_language_and_task_are_in_the_generation_config_of_a_multilingual_model(
    flac_clips: list[Utterance], tmp_path: Path
) -> None:
    settings = config("lora", "language=it", base="builtin:base")
    model = load_model("builtin:base")
    hand_over(tmp_path / "out", settings, flac_clips, checkpoint(model, settings, tmp_path / "last"))
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (written["language"], written["task"]) == ("it", "transcribe")


def test_a_checkpoint_that_lacks_something_leaves_no_artifact(
    english_model: SpeechModel, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    settings = config("lora")
    last = checkpoint(english_model, settings, tmp_path / "last")
    (tmp_path / "last" / STATE).unlink()
    with pytest.raises(FileNotFoundError):
        hand_over(tmp_path / "out", settings, flac_clips, last)
    assert not (tmp_path / "out" / CARD).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
