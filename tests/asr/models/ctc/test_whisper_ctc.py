from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCTC

from asr.models.ctc.whisper_ctc import WhisperCtcConfig, WhisperForCTC
from tests.asr.models.ctc import tiny
from tests.asr.tiny_whisper import random_whisper


@pytest.fixture
def network(tmp_path: Path) -> WhisperForCTC:
    made = tiny.random(tiny.write_config(tmp_path, "whisper-tiny"))
    assert isinstance(made, WhisperForCTC)
    return made


def test_transformers_knows_it_by_its_config(network: WhisperForCTC, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), WhisperCtcConfig)
    again = AutoModelForCTC.from_pretrained(tmp_path).eval()
    features = torch.randn(1, 80, 100)
    assert torch.equal(again(features).logits, network(features).logits)


def test_its_encoder_is_that_of_a_whisper() -> None:
    whisper = random_whisper()
    network = WhisperForCTC(WhisperCtcConfig.from_dict(whisper.config.to_dict() | {"vocab_size": 30})).eval()
    missing, unexpected = network.load_state_dict(whisper.state_dict(), strict=False)
    assert missing == ["lm_head.weight", "lm_head.bias"]
    assert all(name.startswith(("model.decoder.", "proj_out.")) for name in unexpected)
    features = torch.randn(2, 80, 3000)
    with torch.inference_mode():
        hidden = whisper.model.encoder(features).last_hidden_state
        assert torch.equal(network(features).logits, network.lm_head(hidden))


@pytest.mark.parametrize("frames", [2, 100, 3000])
def test_a_position_has_two_frames(network: WhisperForCTC, frames: int) -> None:
    assert network(torch.randn(2, 80, frames)).logits.shape == (2, frames // 2, len(tiny.SYMBOLS))


def test_more_than_thirty_seconds_do_not_fit(network: WhisperForCTC) -> None:
    with pytest.raises(ValueError, match="3002 frames do not fit"):
        network(torch.randn(1, 80, 3002))


def test_states_are_dropped_out_before_the_head() -> None:
    config = WhisperCtcConfig(vocab_size=30, d_model=16, encoder_layers=1, encoder_attention_heads=2, dropout=0.5)
    network = WhisperForCTC(config)
    assert network.dropout.p == 0.5
    features = torch.randn(1, 80, 100)
    assert not torch.equal(network.train()(features).logits, network(features).logits)
    assert torch.equal(network.eval()(features).logits, network(features).logits)


def test_its_first_layer_is_where_gradients_are_asked_for(network: WhisperForCTC) -> None:
    assert network.get_input_embeddings() is network.model.encoder.conv1
