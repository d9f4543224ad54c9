from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, PreTrainedModel

from asr.models.ctc.network import read_config
from asr.models.ctc.positions import frame_lengths, frames_per_position, network_class, position_s, positions
from tests.asr.models.ctc import tiny

# LASR convolves with even kernels, and WavLM hands torch masks of two kinds: torch warns of both, once in a process
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),
]

Networks = Callable[[str], PreTrainedModel]
Checkpoint = Callable[[str], Path]
MASKED = [name for name in tiny.CONFIGS if name != "whisper-tiny"]  # Whisper's encoder takes no mask


def noise(network: PreTrainedModel, lengths: list[int]) -> dict[str, torch.Tensor]:
    """Clips of noise with their mask; lengths in frames."""
    generator = torch.Generator().manual_seed(3)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).to(torch.int32)
    if network.main_input_name == "input_values":
        return {"input_values": torch.randn(mask.shape, generator=generator) * mask, "attention_mask": mask}
    config = getattr(network.config, "encoder_config", network.config)
    bins = getattr(config, "feature_projection_input_dim", 0) or config.num_mel_bins
    bins *= 4 if "granite" in network.config.model_type else 1
    features = torch.randn(*mask.shape, bins, generator=generator) * mask[..., None]
    return {"input_features": features, "attention_mask": mask}


def lengths_of(network: PreTrainedModel) -> list[int]:
    return [6500, 9700, 9000] if network.main_input_name == "input_values" else [90, 131, 128]


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_positions_are_foretold(network_of: Networks, name: str) -> None:
    network = network_of(name)
    for frames in lengths_of(network):
        batch = noise(network, [frames])
        if name == "whisper-tiny":
            batch = {"input_features": batch["input_features"].transpose(1, 2)}
        with torch.inference_mode():
            assert network(**batch).logits.shape[1] == positions(network.config, frames)
    assert positions(network.config, 0) == 0


@pytest.mark.parametrize(
    ("name", "frame_s", "seconds"),
    [
        ("wav2vec2-base-960h", 1 / 16000, 0.02),
        ("sew-tiny-100k", 1 / 16000, 0.02),
        ("w2v-bert-2.0", 0.02, 0.02),
        ("parakeet-ctc-0.6b", 0.01, 0.08),
        ("medasr", 0.01, 0.04),
        ("granite-speech-5.0", 0.02, 0.08),
        ("whisper-tiny", 0.01, 0.02),
    ],
)
def test_a_position_has_its_seconds(checkpoint: Checkpoint, name: str, frame_s: float, seconds: float) -> None:
    config = read_config(checkpoint(name))
    assert position_s(config, frame_s) == pytest.approx(seconds)
    step = frames_per_position(config)
    assert positions(config, 100 * step + 7) - positions(config, 60 * step + 7) == 40


def test_a_convolutional_adapter_makes_positions_longer(checkpoint: Checkpoint) -> None:
    config = read_config(checkpoint("w2v-bert-2.0"))
    config.add_adapter, config.num_adapter_layers, config.adapter_stride = True, 2, 2
    assert position_s(config, 0.02) == pytest.approx(0.08)


def test_another_network_has_none() -> None:
    with pytest.raises(ValueError, match="'bert' is no network for CTC"):
        network_class(BertConfig())


@pytest.mark.parametrize("name", MASKED)
def test_the_loss_over_all_positions_is_that_over_a_clips_own(network_of: Networks, name: str) -> None:
    network = network_of(name)
    batch = noise(network, lengths_of(network))
    logits = network(**batch).logits
    logits.retain_grad()
    labels = torch.tensor([[5, 6, 6], [9, 4, 2], [3, 7, 8]])
    lengths = frame_lengths(network, batch["attention_mask"])
    blank = network.config.pad_token_id

    def loss(given: torch.Tensor) -> torch.Tensor:
        logprobs = logits.float().log_softmax(dim=-1).transpose(0, 1)
        return F.ctc_loss(logprobs, labels, given, torch.full((3,), 3), blank, reduction="none")

    over_all = loss(torch.full((3,), logits.shape[1]))
    assert lengths.min() < logits.shape[1]
    torch.testing.assert_close(over_all, loss(lengths))
    assert (logits.argmax(dim=-1)[torch.arange(logits.shape[1]) >= lengths[:, None]] == blank).all()


@pytest.mark.parametrize("name", ["hubert-large-ls960-ft", "parakeet-ctc-0.6b"])
def test_no_gradient_comes_from_padding(network_of: Networks, name: str) -> None:
    """A row that is padding but for a moment gives its gradients at that moment alone."""
    network = network_of(name)
    head = network.lm_head if hasattr(network, "lm_head") else network.ctc_head
    heads: list[torch.Tensor] = []
    head.register_forward_hook(lambda module, args, output: (output.retain_grad(), heads.append(output))[0])
    batch = noise(network, lengths_of(network))
    network(**batch).logits.log_softmax(dim=-1).square().clamp(max=1e6).sum().backward()
    own = torch.arange(heads[0].shape[1]) < frame_lengths(network, batch["attention_mask"])[:, None]
    gradient = heads[0].grad
    assert gradient is not None and (gradient[own] != 0).any() and (gradient[~own] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_padding_is_finite_in_half_precision(network_of: Networks, dtype: torch.dtype) -> None:
    network = network_of("wav2vec2-large-lv60").to(dtype)
    batch = noise(network, [6500, 9700])
    with torch.inference_mode():
        logits = network(batch["input_values"].to(dtype), attention_mask=batch["attention_mask"]).logits
    assert logits.dtype == dtype and torch.isfinite(logits).all()
    assert logits.float().log_softmax(dim=-1)[0, -1, network.config.pad_token_id] == 0.0


def test_without_a_mask_nothing_is_padding(network_of: Networks) -> None:
    network = network_of("wav2vec2-base-960h")
    values = noise(network, [6500, 9700])["input_values"]
    with torch.inference_mode():
        assert not (network(values).logits == -10_000.0).any()
