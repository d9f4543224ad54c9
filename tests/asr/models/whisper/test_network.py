from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from asr.models.whisper.network import AnyContextWhisper, cross_attention_mask, pad_encoder_states
from tests.asr.tiny_whisper import logits, random_whisper


@pytest.fixture(scope="module")
def original() -> WhisperForConditionalGeneration:
    return random_whisper()


@pytest.fixture
def network(original: WhisperForConditionalGeneration) -> AnyContextWhisper:
    return any_context(original)


def any_context(original: WhisperForConditionalGeneration) -> AnyContextWhisper:
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


@pytest.mark.medium
def test_half_precision_too(original: WhisperForConditionalGeneration, network: AnyContextWhisper) -> None:
    assert torch.equal(logits(network.bfloat16()), logits(random_whisper(dtype=torch.bfloat16)))


@pytest.mark.medium
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


@torch.inference_mode()
def test_states_of_several_contexts_are_heard_as_each_is_alone(network: AnyContextWhisper) -> None:
    torch.manual_seed(0)
    states = [network.model.encoder(torch.randn(2, 80, frames)).last_hidden_state for frames in (200, 100, 60)]
    ids = torch.tensor([[1, 7, 9, 4]])

    def heard(states_BSD: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = network.model.decoder(
            input_ids=ids.repeat(len(states_BSD), 1), encoder_hidden_states=states_BSD, use_cache=False
        ).last_hidden_state
        return hidden

    alone = torch.cat([heard(one) for one in states])
    together, mask = pad_encoder_states(states)
    assert together.shape[:2] == (6, 100) and mask is not None
    with cross_attention_mask(network, lambda: mask):
        torch.testing.assert_close(heard(together), alone)
    assert not torch.allclose(heard(together), alone), "the mask is gone, and padding is heard"


def test_states_of_one_context_need_no_mask(network: AnyContextWhisper) -> None:
    states = [torch.randn(2, 50, 16), torch.randn(1, 50, 16)]
    together, mask = pad_encoder_states(states)
    assert torch.equal(together, torch.cat(states)) and mask is None


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


@pytest.mark.medium
def test_saved_weights_load_in_plain_transformers(network: AnyContextWhisper, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    assert torch.equal(logits(WhisperForConditionalGeneration.from_pretrained(tmp_path)), logits(network))


@pytest.mark.medium
def test_the_embeddings_are_saved_once_whoever_gathered_them(network: AnyContextWhisper, tmp_path: Path) -> None:
    """DeepSpeed hands over a copy under each name: 265 MB too much for large-v3."""
    network.save_pretrained(
        tmp_path, state_dict={name: weight.clone() for name, weight in network.state_dict().items()}
    )
    assert "proj_out.weight" not in load_file(tmp_path / "model.safetensors")
    assert torch.equal(logits(WhisperForConditionalGeneration.from_pretrained(tmp_path)), logits(network))


@pytest.mark.medium
def test_activations_computed_again_give_the_same_gradients(network: AnyContextWhisper) -> None:
    def gradients() -> dict[str, torch.Tensor]:
        network.zero_grad()
        network(input_features=torch.ones(1, 80, 100), labels=torch.tensor([[50257, 11, 12, 50256]])).loss.backward()
        return {name: weight.grad for name, weight in network.named_parameters() if weight.requires_grad}

    network.train()
    plain = gradients()
    network.activation_checkpointing_enable({"use_reentrant": False})
    again = gradients()
    assert plain.keys() == again.keys()
    assert [name for name, gradient in plain.items() if not torch.allclose(gradient, again[name])] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_it_is_built_three_times_for_any_number_of_lengths() -> None:
    """For the first length, for any length, and for a clip alone: torch takes a batch of one for a constant."""
    network = any_context(random_whisper(layers=(1, 1)))  # one of each: all are built alike
    torch._dynamo.reset()
    built: list[int] = []
    compiled = torch.compile(network, backend=lambda graph, _: built.append(1) or graph.forward)
    shapes = [(3, 100, 7), (2, 120, 9), (4, 140, 5), (1, 160, 6), (2, 180, 8), (1, 300, 4), (5, 220, 12), (2, 3000, 20)]
    with torch.no_grad():
        for clips, frames, tokens in shapes:
            features, ids = torch.ones(clips, 80, frames), torch.ones(clips, tokens, dtype=torch.int64)
            heard = compiled(input_features=features, decoder_input_ids=ids).logits
            assert torch.allclose(heard, network(input_features=features, decoder_input_ids=ids).logits, atol=1e-4)
    assert 1 <= len(built) <= 4
