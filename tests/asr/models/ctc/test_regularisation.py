from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from asr.errors import UserError
from asr.models.ctc.features import ClipFeatures
from asr.models.ctc.layers import feature_encoder
from asr.models.ctc.regularisation import SteadyBatchNorm, regularise
from asr.models.regularisation import Regularisation
from tests.asr.models.ctc import tiny
from tests.asr.models.ctc.test_layers import batch_for

# LASR convolves with even kernels, and WavLM hands torch masks of two kinds: torch warns of both, once in a process
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),
]

Networks = Callable[[str], PreTrainedModel]
MASKS = Regularisation(time_share=0.3, stretch_s=1.0, feature_share=0.3, band_share=0.2)


def logits(network: PreTrainedModel, seed: int = 1) -> torch.Tensor:
    np.random.seed(seed)
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Dropout):  # another matter
            module.p = 0.0
    with torch.no_grad():
        found: torch.Tensor = network(**batch_for(network)).logits
    return found


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_nothing_is_left_out_unless_it_is_asked_for(name: str, network_of: Networks) -> None:
    """Published checkpoints ask for masks and dropped layers of their own accord; a norm keeps its statistics."""
    network = network_of(name)
    expected = logits(network)
    network.config.mask_time_prob = 0.5
    regularise(network, Regularisation())
    assert torch.equal(logits(network.train()), expected)
    assert torch.equal(logits(network.train(), seed=2), expected)


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_networks_of_waveforms_mask_what_they_hear_by_numpys_state(name: str, network_of: Networks) -> None:
    """transformers' trainer keeps it in each checkpoint. Spectrograms are masked before, and not twice."""
    network = network_of(name)
    expected = logits(network)
    regularise(network, MASKS)
    masked = logits(network.train())
    assert torch.equal(masked, expected) == (feature_encoder(network) is None)
    assert torch.equal(logits(network), masked)
    assert torch.equal(logits(network, seed=2), masked) == (feature_encoder(network) is None)
    assert torch.equal(logits(network.eval()), expected)


@pytest.mark.parametrize("name", [name for name, one in tiny.CONFIGS.items() if "conv_dim" in one])
def test_the_shortest_clip_can_be_masked(
    name: str, network_of: Networks, features_of: Callable[[str], ClipFeatures]
) -> None:
    """transformers refuses a batch of fewer positions than a stretch has."""
    network, features = network_of(name).train(), features_of(name)
    regularise(network, MASKS)
    batch = features.pad_batch([features(np.full(1600, 0.1, np.float32))])
    for _ in range(5):
        assert network(**batch).logits.isfinite().all()


def test_as_much_is_hidden_as_is_asked_for(network_of: Networks) -> None:
    network = network_of("wav2vec2-large-lv60").train()
    inner, hidden = network.wav2vec2, {}
    for wanted in (Regularisation(time_share=0.3, stretch_s=1.0), Regularisation(feature_share=0.3, band_share=0.1)):
        regularise(network, wanted)
        states = torch.stack([inner._mask_hidden_states(torch.ones(2, 200, 16)) for _ in range(100)])
        hidden[wanted.time_share > 0] = (states != 1).float().mean().item()
    assert 0.2 < hidden[True] < 0.31, "stretches overlap"
    assert 0.15 < hidden[False] < 0.31
    regularise(network, MASKS)
    assert network.config.mask_time_length == 10
    regularise(network, Regularisation(time_share=0.3, stretch_s=0.06))
    assert network.config.mask_time_length == 3
    assert network.config.mask_feature_prob == 0


@pytest.mark.parametrize("name", ["wav2vec2-large-lv60", "w2v-bert-2.0", "parakeet-ctc-0.6b", "whisper-tiny"])
def test_layers_are_left_out_where_it_is_asked_for(name: str, network_of: Networks) -> None:
    network = network_of(name)
    expected = logits(network)
    regularise(network, Regularisation(layerdrop=0.9))
    assert not torch.equal(logits(network.train()), expected)
    assert torch.equal(logits(network.eval()), expected)


def test_a_network_that_leaves_out_no_layer_says_so(network_of: Networks) -> None:
    with pytest.raises(UserError, match=r"ctc\.layerdrop: GraniteSpeech5ForCTC leaves out no layer"):
        regularise(network_of("granite-speech-5.0"), Regularisation(layerdrop=0.1))


def test_a_batchs_statistics_were_gathered_and_lost_with_an_adapter(network_of: Networks) -> None:
    network = network_of("parakeet-ctc-0.6b")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    regularise(network, Regularisation())
    logits(network.train())
    assert any(isinstance(module, SteadyBatchNorm) for module in network.modules())
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert all(part.weight.requires_grad for part in network.modules() if isinstance(part, nn.BatchNorm1d))
