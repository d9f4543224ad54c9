from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from asr.whisper import AnyContextWhisper
from tests.asr.tiny_whisper import logits, random_whisper


@pytest.fixture(scope="module")
def original() -> WhisperForConditionalGeneration:
    return random_whisper()


@pytest.fixture
def network(original: WhisperForConditionalGeneration) -> AnyContextWhisper:
    network = AnyContextWhisper(original.config).eval()
    network.load_state_dict(original.state_dict(), strict=True)
    return network


def test_the_names_of_the_weights_are_the_same(
    network: AnyContextWhisper, original: WhisperForConditionalGeneration
) -> None:
    assert list(network.state_dict()) == list(original.state_dict())
    assert network.proj_out.weight is network.model.decoder.embed_tokens.weight, "still tied"
    assert not network.model.encoder.embed_positions.weight.requires_grad, "sinusoids are not trained"


def test_thirty_seconds_are_computed_bit_for_bit(
    network: AnyContextWhisper, original: WhisperForConditionalGeneration
) -> None:
    assert torch.equal(logits(network), logits(original))


def test_half_precision_too(original: WhisperForConditionalGeneration, network: AnyContextWhisper) -> None:
    assert torch.equal(logits(network.bfloat16()), logits(random_whisper(dtype=torch.bfloat16)))


@pytest.mark.parametrize("frames", [2, 100, 550, 3000])
def test_a_short_context_has_half_as_many_positions(network: AnyContextWhisper, frames: int) -> None:
    encoded = network.model.encoder(torch.randn(3, 80, frames))
    assert encoded.last_hidden_state.shape == (3, frames // 2, 16)
    assert torch.isfinite(logits(network, frames)).all()


def test_a_short_context_is_the_network_of_that_many_positions(network: AnyContextWhisper) -> None:
    """Transformers' own encoder, configured for 100 positions and given the first 100, computes the same."""
    config = type(network.config).from_dict(network.config.to_dict() | {"max_source_positions": 100})
    short = WhisperForConditionalGeneration(config).eval()
    state = network.state_dict()
    state["model.encoder.embed_positions.weight"] = state["model.encoder.embed_positions.weight"][:100]
    short.load_state_dict(state)
    assert torch.equal(logits(network, 200), logits(short, 200))


def test_more_than_thirty_seconds_do_not_fit(network: AnyContextWhisper) -> None:
    with pytest.raises(RuntimeError, match="size"):
        network.model.encoder(torch.randn(1, 80, 3002))


def test_gradients_reach_every_weight(network: AnyContextWhisper) -> None:
    network.train()
    labels = torch.tensor([[50257, 11, 12, 50256, -100]])
    network(input_features=torch.randn(1, 80, 300), labels=labels).loss.backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert without == []


def test_layers_are_dropped_in_training_only(network: AnyContextWhisper) -> None:
    features = torch.randn(1, 80, 100)
    whole = network.model.encoder(features).last_hidden_state
    network.model.encoder.layerdrop = 1.0
    assert torch.equal(network.model.encoder(features).last_hidden_state, whole)
    network.train()
    assert not torch.equal(network.model.encoder(features).last_hidden_state, whole)


def test_saved_weights_load_in_plain_transformers(network: AnyContextWhisper, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    assert torch.equal(logits(WhisperForConditionalGeneration.from_pretrained(tmp_path)), logits(network))
