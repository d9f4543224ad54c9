from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.family import SpeechModel, load_checkpoint
from asr.models.training import FrozenPart
from asr.models.whisper.family import FAMILY
from tests.asr.tiny_whisper import MULTILINGUAL, random_whisper


def test_its_languages_are_those_it_has_tokens_for(tiny_en: SpeechModel, base_checkpoint: Checkpoint) -> None:
    assert FAMILY.languages(tiny_en) == {"en"}
    known = FAMILY.languages(load_checkpoint(base_checkpoint))
    assert {"en", "it", "dv"} - known == {"dv"}  # Whisper knows no Dhivehi


@pytest.mark.parametrize(
    ("part", "frozen"),
    [
        ("nothing", "model.encoder.embed_positions."),
        ("feature_encoder", ("model.encoder.embed_positions.", "model.encoder.conv")),
        ("encoder", "model.encoder."),
    ],
)
def test_what_is_frozen_asks_for_no_gradient(part: FrozenPart, frozen: str | tuple[str, ...]) -> None:
    network = random_whisper(MULTILINGUAL)
    FAMILY.freeze(network, part)
    fixed = {name for name, weight in network.named_parameters() if not weight.requires_grad}
    assert fixed == {name for name, _ in network.named_parameters() if name.startswith(frozen)}


def test_whisper_has_no_adapters_of_languages() -> None:
    with pytest.raises(UserError, match="strategy=language_adapter"):
        FAMILY.freeze(random_whisper(MULTILINGUAL), "all_but_language")


def test_what_is_saved_names_transformers_own_class(checkpoint: Checkpoint, tmp_path: Path) -> None:
    load_checkpoint(checkpoint).network.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    FAMILY.settle(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == before | {
        "architectures": ["WhisperForConditionalGeneration"]
    }
    assert before["architectures"] == ["AnyContextWhisper"]


def test_an_untrained_network_is_that_of_the_config(checkpoint: Checkpoint) -> None:
    loaded = load_checkpoint(checkpoint).network
    (checkpoint.folder / "model.safetensors").unlink()
    network = FAMILY.untrained(checkpoint.folder, torch.bfloat16)
    assert type(network) is type(loaded)
    shapes = {name: weight.shape for name, weight in loaded.named_parameters()}
    assert {name: weight.shape for name, weight in network.named_parameters()} == shapes
    assert network.dtype == torch.bfloat16


def test_an_untrained_network_needs_a_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded as Whisper"):
        FAMILY.untrained(tmp_path, torch.float32)
