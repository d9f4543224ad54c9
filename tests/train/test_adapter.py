from __future__ import annotations

import copy

import pytest
import torch

from asr.model import SpeechModel
from asr.utterance import Utterance
from asr.whisper import AnyContextWhisper
from train.adapter import LoraSettings, Strategy, adapt
from train.collate import collate
from train.stream import Recipe, prepare
from train.trainer import token_loss

BASE = "builtin:tiny.en"
SETTINGS = LoraSettings(rank=4, alpha=8)


@pytest.fixture
def network(english_model: SpeechModel) -> AnyContextWhisper:
    return copy.deepcopy(english_model.network)


def adapted(network: AnyContextWhisper, strategy: Strategy) -> torch.nn.Module:
    return adapt(network, strategy, SETTINGS)


def test_lora_trains_its_own_weights_in_encoder_and_decoder_and_nothing_else(network: AnyContextWhisper) -> None:
    layers = network.config.encoder_layers, network.config.decoder_layers
    trained = [name for name, weight in adapted(network, "lora").named_parameters() if weight.requires_grad]
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    # q, k, v, out of self attention and two fully connected; the decoder's cross attention has four more
    assert sum(".encoder." in name for name in trained) == layers[0] * 6 * 2
    assert sum(".decoder." in name for name in trained) == layers[1] * 10 * 2


def test_peft_is_told_no_task_type_and_no_base_to_look_up_on_the_hub(network: AnyContextWhisper) -> None:
    config = adapt(network, "lora", SETTINGS).peft_config["default"]
    assert (config.task_type, config.r, config.lora_alpha) == (None, 4, 8)
    assert not config.base_model_name_or_path


def test_every_adapter_learns_from_one_step_of_real_speech(
    network: AnyContextWhisper, flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    model = adapted(network, "lora").train()
    row = prepare(flac_clips[:2], 5.0, Recipe(BASE, None, "transcribe"))
    batch = collate(row, english_model.tokenizer.pad_token_id)
    labels = batch.pop("labels")
    token_loss(model(**batch), labels).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if ".lora_B." in name}
    assert gradients
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().sum() > 0] == []


def test_full_leaves_only_the_sinusoids_alone(network: AnyContextWhisper) -> None:
    model = adapted(network.requires_grad_(False), "full")
    assert model is network
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert frozen == ["model.encoder.embed_positions.weight"]
