from __future__ import annotations

import pytest
import torch
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from asr.models.any_context_encoder import AnyContextEncoder
from tests.asr.tiny_whisper import random_whisper


@pytest.fixture(scope="module")
def original() -> WhisperEncoder:
    return random_whisper().model.encoder


@pytest.fixture
def encoder(original: WhisperEncoder) -> AnyContextEncoder:
    return any_context(original)


def any_context(original: WhisperEncoder) -> AnyContextEncoder:
    encoder = AnyContextEncoder(original.config).eval()
    encoder.load_state_dict(original.state_dict(), strict=True)
    return encoder


@torch.inference_mode()
def states(encoder: WhisperEncoder, frames: int = 3000) -> torch.Tensor:
    features = torch.randn(3, 80, frames, generator=torch.Generator().manual_seed(3))
    hidden: torch.Tensor = encoder(features).last_hidden_state
    return hidden


def test_thirty_seconds_are_encoded_bit_for_bit(encoder: AnyContextEncoder, original: WhisperEncoder) -> None:
    assert torch.equal(states(encoder), states(original))


@pytest.mark.parametrize("frames", [2, 100, 550])
def test_a_short_context_has_half_as_many_positions(encoder: AnyContextEncoder, frames: int) -> None:
    assert states(encoder, frames).shape == (3, frames // 2, 16)


def test_a_short_context_is_the_encoder_of_that_many_positions(encoder: AnyContextEncoder) -> None:
    """Transformers' own, configured for 100 positions and given the first 100, computes the same."""
    config = type(encoder.config).from_dict(encoder.config.to_dict() | {"max_source_positions": 100})
    short = WhisperEncoder(config).eval()
    short.load_state_dict(
        encoder.state_dict() | {"embed_positions.weight": encoder.state_dict()["embed_positions.weight"][:100]}
    )
    assert torch.equal(states(encoder, 200), states(short, 200))


def test_more_than_thirty_seconds_do_not_fit(encoder: AnyContextEncoder) -> None:
    with pytest.raises(ValueError, match="3002 frames do not fit: at most 3000"):
        encoder(torch.randn(1, 80, 3002))


def test_layers_are_dropped_in_training_only(encoder: AnyContextEncoder) -> None:
    whole = states(encoder, 100)
    encoder.layerdrop = 1.0
    assert torch.equal(states(encoder, 100), whole)
    encoder.train()
    assert not torch.equal(states(encoder, 100), whole)


def test_positions_are_looked_up_by_their_module(encoder: AnyContextEncoder) -> None:
    """Under ZeRO-3 a weight is whole only while its own module's forward runs."""
    whole = states(encoder, 100)
    positions = encoder.embed_positions
    weight = positions.weight.data
    positions.weight.data = torch.empty(0)
    positions.register_forward_pre_hook(lambda module, _: setattr(module.weight, "data", weight))
    assert torch.equal(states(encoder, 100), whole)
