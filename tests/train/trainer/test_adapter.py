from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from asr.models.checkpoint import find_checkpoint
from asr.models.family import SpeechModel
from asr.models.head import InitialModel
from asr.models.whisper.loss import token_loss
from asr.models.whisper.network import AnyContextWhisper
from asr.utterance import Utterance
from train.callbacks.gradient_flow import silent_weights
from train.dataloader.collate import collate
from train.dataloader.preprocess import prepare
from train.examples import MicroBatchSpec, PackedExample, PreprocessConfig
from train.trainer.adapter import adapt, load_base
from train.trainer.strategy import LoraSettings, Strategy

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
    spec = MicroBatchSpec(tuple(PackedExample((clip,)) for clip in flac_clips[:2]), 5.0)
    row = prepare(spec, PreprocessConfig(InitialModel(BASE), None, "transcribe"))
    batch = collate(row, english_model.processor)
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


def test_a_frozen_encoder_keeps_nothing_for_a_backward_pass(network: AnyContextWhisper) -> None:
    model = adapted(network, "frozen_encoder").train()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if not name.startswith("model.encoder.")}
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        heard = model.model.encoder(torch.randn(1, 80, 100)).last_hidden_state
        assert kept == []
        assert not heard.requires_grad
        model(encoder_outputs=(heard,), decoder_input_ids=torch.tensor([[50257, 11, 12]])).logits.sum().backward()
    assert kept


def test_dora_adds_a_magnitude_to_each_adapter(network: AnyContextWhisper) -> None:
    names = [name for name, weight in adapted(network, "dora").named_parameters() if weight.requires_grad]
    assert sum(".lora_magnitude_vector." in name for name in names) == sum(".lora_B." in name for name in names) > 0


@pytest.mark.medium
@pytest.mark.parametrize(
    ("strategy", "dtype"), [("full", torch.float32), ("frozen_encoder", torch.float32), ("lora", torch.bfloat16)]
)
def test_only_weights_that_are_never_trained_are_kept_rounded(strategy: Strategy, dtype: torch.dtype) -> None:
    network = adapted(load_base(find_checkpoint(BASE), strategy, "bf16").network, strategy)
    assert {weight.dtype for weight in network.parameters() if not weight.requires_grad} == {dtype}
    assert {weight.dtype for weight in network.parameters() if weight.requires_grad} == {torch.float32}


def plain_adapters_beside_four_bit_layers(folder: str) -> None:
    """bitsandbytes has slow kernels for CPUs too: enough to see what is quantised, trained and saved."""
    network = load_base(find_checkpoint(BASE), "qlora", "bf16").network
    four_bit = {name for name, module in network.named_modules() if type(module).__name__ == "Linear4bit"}
    linear = {name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    assert linear - four_bit == {"proj_out"}
    assert network.proj_out.weight is network.model.decoder.embed_tokens.weight
    model = adapted(network, "qlora").train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(1, 80, 100), decoder_input_ids=torch.tensor([[50257, 11, 12]])).logits
    logits.float().logsumexp(-1).sum().backward()
    assert silent_weights(model) == []
    model.save_pretrained(folder)
    plain = PeftModel.from_pretrained(load_base(find_checkpoint(BASE), "lora", "fp32").network, folder)
    saved = load_file(Path(folder) / "adapter_model.safetensors")
    loaded = {name.replace(".default", ""): value for name, value in plain.named_parameters() if ".lora_" in name}
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], value) for name, value in loaded.items())


@pytest.mark.slow
def test_qlora_puts_plain_adapters_beside_four_bit_layers(tmp_path: Path) -> None:
    """In a process of its own: PEFT asks once whether there is bitsandbytes, and the tests' have told it no."""
    run = "from tests.train.trainer.test_adapter import plain_adapters_beside_four_bit_layers as check"
    run += f"; check({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", run], cwd=Path(__file__).resolve().parents[3], check=True)
    assert (tmp_path / "adapter_model.safetensors").is_file()
