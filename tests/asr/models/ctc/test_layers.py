from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from asr.models.ctc.layers import feature_encoder, freeze_feature_encoder, freeze_unused, head_name, lora_targets
from tests.asr.models.ctc import tiny
from tests.asr.models.ctc.test_positions import lengths_of, noise

# LASR convolves with even kernels, and WavLM hands torch masks of two kinds: torch warns of both, once in a process
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),
]

Networks = Callable[[str], PreTrainedModel]


def batch_for(network: PreTrainedModel) -> dict[str, torch.Tensor]:
    batch = noise(network, lengths_of(network))
    if network.config.model_type == "whisper_ctc":
        return {"input_features": batch["input_features"][:, :120].transpose(1, 2)}
    return batch


def without_gradient(network: torch.nn.Module, batch: dict[str, torch.Tensor]) -> list[str]:
    network.zero_grad()
    network(**batch).logits.log_softmax(dim=-1)[..., :5].sum().backward()
    return [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]


@pytest.mark.parametrize("name", [*tiny.UNLIKE, "granite-speech-5.0"])
def test_the_head_is_found(network_of: Networks, name: str) -> None:
    wanted = "ctc_head" if name in tiny.PIECEWISE else "lm_head"
    network = network_of(name)
    assert head_name(network) == wanted
    adapted = get_peft_model(network, LoraConfig(target_modules=lora_targets(network), modules_to_save=[wanted]))
    assert head_name(adapted.get_base_model()) == wanted


def test_a_network_without_a_head_says_so(network_of: Networks) -> None:
    network = network_of("wav2vec2-base-960h")
    with pytest.raises(ValueError, match="has no head of"):
        head_name(network.wav2vec2)


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_every_trained_weight_has_a_gradient(network_of: Networks, name: str) -> None:
    """DDP waits for each of them."""
    network = network_of(name).train()
    freeze_unused(network)
    assert without_gradient(network, batch_for(network)) == []


@pytest.mark.parametrize("name", ["wav2vec2-base-960h", "hubert-large-ls960-ft", "w2v-bert-2.0"])
def test_the_vector_for_masked_positions_is_never_trained(network_of: Networks, name: str) -> None:
    """A step may mask none."""
    network = network_of(name).train()
    network.config.apply_spec_augment = False
    assert len(without_gradient(network, batch_for(network))) == 1
    freeze_unused(network)
    assert without_gradient(network, batch_for(network)) == []


def test_whispers_sinusoids_are_never_trained(network_of: Networks) -> None:
    network = network_of("whisper-tiny")
    network.requires_grad_(True)
    freeze_unused(network)
    assert [name for name, weight in network.named_parameters() if not weight.requires_grad] == [
        "model.encoder.embed_positions.weight"
    ]


@pytest.mark.parametrize("name", [*tiny.UNLIKE, "granite-speech-5.0"])
def test_networks_of_waveforms_begin_with_convolutions(network_of: Networks, name: str) -> None:
    network = network_of(name).train()
    front = feature_encoder(network)
    assert (front is not None) == (network.main_input_name == "input_values")
    freeze_feature_encoder(network)
    if front is not None:
        seen: list[torch.Tensor] = []
        front.register_forward_hook(lambda module, args, output: seen.append(output))
        network(**batch_for(network))
        assert not seen[0].requires_grad, "its activations would be kept"
        assert not any(weight.requires_grad for weight in front.parameters())


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_lora_reaches_every_layer_that_it_adapts(network_of: Networks, name: str) -> None:
    network = network_of(name).train()
    network.activation_checkpointing_enable({"use_reentrant": False})
    freeze_feature_encoder(network)
    adapted = get_peft_model(
        network, LoraConfig(r=2, target_modules=lora_targets(network), modules_to_save=[head_name(network)])
    ).train()
    assert without_gradient(adapted, batch_for(network)) == []
    gradients = {key: weight.grad for key, weight in adapted.named_parameters() if "lora_B" in key}
    assert len(gradients) >= 4
    assert [key for key, gradient in gradients.items() if gradient is None or not gradient.abs().sum() > 0] == []


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_activations_computed_again_give_the_same_gradients(network_of: Networks, name: str) -> None:
    network = network_of(name).train()
    network.config.apply_spec_augment = False
    freeze_unused(network)
    batch = batch_for(network)

    def gradients() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        assert without_gradient(network, batch) == []
        return {key: weight.grad.clone() for key, weight in network.named_parameters() if weight.grad is not None}

    for module in network.modules():  # statistics of a batch move with each forward pass
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    plain = gradients()
    network.activation_checkpointing_enable({"use_reentrant": False})
    again = gradients()
    assert plain.keys() == again.keys()
    assert [key for key, value in plain.items() if not torch.allclose(value, again[key], rtol=1e-3, atol=1e-3)] == []
