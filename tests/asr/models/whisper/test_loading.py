from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import SpeechModel, best_device, load_checkpoint
from tests.asr.tiny_whisper import logits, random_whisper


def refused(checkpoint: Checkpoint) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(checkpoint)
    assert "\n" not in str(caught.value)
    assert "'mine'" in caught.value.message
    return str(caught.value)


def test_a_real_checkpoint_is_ready_to_decode(tiny_en: SpeechModel, tiny_en_name: str) -> None:
    assert (tiny_en.name, tiny_en.digest) == (tiny_en_name, find_checkpoint(tiny_en_name).digest)
    assert not tiny_en.network.training
    assert (tiny_en.language, tiny_en.short_context) == (None, False), "no card says that it hears short contexts"
    assert tiny_en.processor.features.bins == tiny_en.network.config.num_mel_bins


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_are_loaded_in_the_dtype_asked_for(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    network = load_checkpoint(checkpoint, dtype=dtype).network
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}
    assert torch.equal(logits(network), logits(random_whisper(dtype=dtype)))


def test_a_checkpoint_that_lacks_weights_is_not_filled_up_at_random(checkpoint: Checkpoint) -> None:
    path = checkpoint.folder / "model.safetensors"
    state = load_file(path)
    del state["model.encoder.layers.1.fc2.weight"]
    save_file(state, path, metadata={"format": "pt"})
    assert "no weights named model.encoder.layers.1.fc2.weight" in refused(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file(checkpoint: Checkpoint, name: str) -> None:
    path = checkpoint.folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be loaded as Whisper" in refused(checkpoint)


def test_another_shape(checkpoint: Checkpoint) -> None:
    path = checkpoint.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder_ffn_dim": 48}))
    assert "cannot be loaded as Whisper" in refused(checkpoint)


def test_pickled_weights_are_not_read(checkpoint: Checkpoint) -> None:
    shutil.move(checkpoint.folder / "model.safetensors", checkpoint.folder / "pytorch_model.bin")
    assert "cannot be loaded as Whisper" in refused(checkpoint)


def test_the_best_device() -> None:
    assert best_device() == ("cuda" if torch.cuda.is_available() else "cpu")
