from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    AutoConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)
from transformers.integrations import deepspeed
from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES

from asr.models.ctc.network import load, read_config, twin, untrained
from tests.asr.models.ctc import tiny
from tests.asr.tiny_whisper import random_whisper

# LASR convolves with even kernels, of which torch warns once in a process
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")

Checkpoint = Callable[[str], Path]
Networks = Callable[[str], PreTrainedModel]
BASE, LAYER = "wav2vec2-base-960h", "wav2vec2-large-lv60"


def inputs(network: PreTrainedModel, frames: int | None = None) -> dict[str, torch.Tensor]:
    """Two clips of noise, as long as each other."""
    generator = torch.Generator().manual_seed(3)
    if network.main_input_name == "input_values":
        return {"input_values": torch.randn(2, frames or 8000, generator=generator)}
    config = getattr(network.config, "encoder_config", network.config)
    bins = getattr(config, "feature_projection_input_dim", 0) or config.num_mel_bins
    bins *= 4 if "granite" in network.config.model_type else 1
    features = torch.randn(2, frames or 60, bins, generator=generator)
    return {"input_features": features.transpose(1, 2) if network.config.model_type == "whisper_ctc" else features}


@torch.inference_mode()
def logits(network: PreTrainedModel) -> torch.Tensor:
    said: torch.Tensor = network(**inputs(network)).logits
    return said


def amended(folder: Path, source: Path, **settings: Any) -> Path:
    """Write the files of a new head: a config without weights."""
    folder.mkdir()
    config = json.loads((source / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_every_network_for_ctc_that_transformers_has_is_tried() -> None:
    tried = {str(config["model_type"]) for config in tiny.CONFIGS.values()}
    assert tried == {*MODEL_FOR_CTC_MAPPING_NAMES, "whisper_ctc"}


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_it_says_what_it_says_in_transformers(checkpoint: Checkpoint, name: str) -> None:
    folder = checkpoint(name)
    config = AutoConfig.from_pretrained(folder)
    theirs = MODEL_FOR_CTC_MAPPING[type(config)].from_pretrained(folder).eval()
    network = load(folder, folder)
    assert torch.equal(logits(network), logits(theirs))
    assert type(network).__name__ == type(theirs).__name__
    assert not network.training


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_no_layer_is_dropped(network_of: Networks, name: str) -> None:
    network = network_of(name)
    for config in (network.config, getattr(network.config, "encoder_config", network.config)):
        assert getattr(config, "layerdrop", 0.0) == 0.0
    assert all(getattr(module, "layerdrop", 0.0) == 0.0 for module in network.modules())


@pytest.mark.parametrize("name", [*tiny.UNLIKE, "medasr", "granite-speech-5.0"])
def test_a_new_head_is_put_on_a_base(checkpoint: Checkpoint, network_of: Networks, tmp_path: Path, name: str) -> None:
    base = checkpoint(name)
    settings: dict[str, Any] = {"vocab_size": 50, "pad_token_id": 9}
    if "granite" in name:  # its encoder has the head's weights too
        settings["encoder_config"] = tiny.CONFIGS[name]["encoder_config"] | {"vocab_size": 50}
    folder = amended(tmp_path / "head", base, **settings)
    one = load(folder, base)
    assert logits(one).shape[-1] == 50
    head = one.lm_head if hasattr(one, "lm_head") else one.ctc_head
    assert head.bias[9] == -1.0 and head.bias.sum() == -1.0
    assert 0.01 < head.weight.std() < 0.03
    before = network_of(name).state_dict()
    changed = {
        key for key, value in one.state_dict().items() if key not in before or not torch.equal(value, before[key])
    }
    assert all("head" in key or "encoder.out" in key for key in changed)


def test_a_new_head_of_the_old_size_is_new(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Its symbols are others."""
    base = checkpoint(BASE)
    one, other = (load(amended(tmp_path / name, base), base).lm_head.weight for name in ("one", "other"))
    assert not torch.equal(one, load(base, base).lm_head.weight)
    assert torch.equal(one, other), "always the same head"


@pytest.mark.parametrize("kind", [Wav2Vec2ForPreTraining, Wav2Vec2Model])
def test_a_pretrained_network_is_a_base(checkpoint: Checkpoint, tmp_path: Path, kind: type[PreTrainedModel]) -> None:
    folder = checkpoint(LAYER)
    pretrained = kind(Wav2Vec2Config.from_pretrained(folder, num_codevectors_per_group=4, codevector_dim=8))
    pretrained.save_pretrained(tmp_path)
    network = load(folder, tmp_path)
    kept = getattr(pretrained, "wav2vec2", pretrained).state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in network.wav2vec2.state_dict().items())


def test_a_whisper_is_a_base(tmp_path: Path) -> None:
    whisper = random_whisper()
    whisper.save_pretrained(tmp_path / "base")
    folder = amended(tmp_path / "head", tmp_path / "base", model_type="whisper_ctc", vocab_size=30, pad_token_id=0)
    network = load(folder, tmp_path / "base")
    kept = whisper.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items() if key.startswith("model."))
    assert logits(network).shape == (2, 30, 30)
    network.save_pretrained(tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved", tmp_path / "saved")), logits(network))
    assert not any("decoder" in key for key in load_file(tmp_path / "saved/model.safetensors"))


def rewritten(folder: Path, source: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(source, folder)
    state = load_file(source / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


def without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        del state[name]

    return change


def test_what_the_base_lacks_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    missing = "wav2vec2.encoder.layers.1.attention.k_proj.weight"
    broken = rewritten(tmp_path / "broken", checkpoint(BASE), without(missing))
    with pytest.raises(ValueError, match=f"no weights named {missing}"):
        load(broken, broken)
    with pytest.raises(ValueError, match=f"no weights named {missing}"):
        load(checkpoint(BASE), broken)


def test_a_checkpoint_without_its_head_does_not_speak(checkpoint: Checkpoint, tmp_path: Path) -> None:
    headless = rewritten(tmp_path / "headless", checkpoint(BASE), without("lm_head.bias"))
    with pytest.raises(ValueError, match=r"no weights named lm_head\.bias"):
        load(headless, headless)


def test_a_base_of_another_size_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = amended(tmp_path / "head", checkpoint(BASE), intermediate_size=40)
    with pytest.raises(ValueError, match=r"feed_forward.* are \(24.*, not \(40"):
        load(folder, checkpoint(BASE))


def test_the_vector_for_masked_positions_may_be_missing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """facebook/wav2vec2-base-960h was published without."""
    name = "wav2vec2.masked_spec_embed"
    folder = rewritten(tmp_path / "one", checkpoint(BASE), without(name))
    one, other = load(folder, folder), load(folder, folder)
    assert torch.equal(one.wav2vec2.masked_spec_embed, other.wav2vec2.masked_spec_embed)


def test_old_names_of_a_normalised_weight_load(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Checkpoints from before torch 2 have weight_g and weight_v."""
    path = "wav2vec2.encoder.pos_conv_embed.conv."

    def rename(state: dict[str, torch.Tensor]) -> None:
        state[path + "weight_g"] = state.pop(path + "parametrizations.weight.original0")
        state[path + "weight_v"] = state.pop(path + "parametrizations.weight.original1")

    old = rewritten(tmp_path / "old", checkpoint(BASE), rename)
    assert torch.equal(logits(load(old, old)), logits(load(checkpoint(BASE), checkpoint(BASE))))


def test_pickles_are_not_loaded(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint(BASE), tmp_path / "old")
    torch.save(load_file(tmp_path / "old/model.safetensors"), tmp_path / "old/pytorch_model.bin")
    (tmp_path / "old/model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        load(tmp_path / "old", tmp_path / "old")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_loads_in_half_precision(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    network = load(checkpoint(LAYER), checkpoint(LAYER), dtype=dtype)
    assert network.lm_head.weight.dtype == dtype


@pytest.mark.parametrize("name", tiny.UNLIKE)
def test_untrained_it_is_as_it_is_loaded(
    checkpoint: Checkpoint, network_of: Networks, tmp_path: Path, name: str
) -> None:
    folder = amended(tmp_path / "config", checkpoint(name))
    network = untrained(folder, torch.bfloat16)
    loaded = network_of(name)
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in loaded.state_dict().items()
    }
    assert next(network.parameters()).dtype == torch.bfloat16


def test_a_twin_is_whole_while_transformers_knows_of_zero3(
    network_of: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks that are built then look for DeepSpeed's notes on their weights."""
    network, known = network_of("wav2vec2-large-lv60"), SimpleNamespace(is_zero3=lambda: True)
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", lambda: known)
    other = twin(network)
    assert deepspeed.is_deepspeed_zero3_enabled()
    other.load_state_dict(network.state_dict())
    assert other.config is network.config
    assert type(other).__name__ == type(network).__name__


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="'bert' is no network for CTC"):
        read_config(tmp_path)


@pytest.mark.parametrize("name", tiny.UNLIKE)
def test_peft_is_answered_without_a_warning(network_of: Networks, name: str) -> None:
    network = network_of(name)
    assert not network.is_gradient_checkpointing
    network.activation_checkpointing_enable({"use_reentrant": False})
    assert network.is_gradient_checkpointing


def test_saved_it_is_read_by_plain_transformers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    network = load(checkpoint(BASE), checkpoint(BASE))
    network.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["Wav2Vec2ForCTC"]
    theirs = MODEL_FOR_CTC_MAPPING[Wav2Vec2Config].from_pretrained(tmp_path).eval()
    assert torch.equal(logits(theirs), logits(network))
