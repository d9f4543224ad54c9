from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    GenerationConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from asr.errors import UserError
from asr.models.builtin.convert import convert
from asr.models.checkpoint import Checkpoint
from tests.asr.tiny_whisper import (
    MULTILINGUAL,
    ct2_variables,
    logits,
    random_whisper,
    write_ct2_folder,
    write_model,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_converted_network_is_the_original(tmp_path: Path, base_checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    original = random_whisper(MULTILINGUAL, dtype)
    tokenizer = base_checkpoint.folder / "tokenizer.json"
    settings = json.dumps({"lang_ids": [50259, 50274], "suppress_ids": [7], "suppress_ids_begin": [220, 50257]})
    convert(write_ct2_folder(tmp_path / "ct2", tokenizer, settings, ct2_variables(original)), tmp_path / "out")
    network = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out", dtype="auto")
    assert network.dtype == dtype
    assert torch.equal(logits(network), logits(original))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "num_mel_bins"):
        assert getattr(network.config, key) == getattr(original.config, key), key
    generation = GenerationConfig.from_pretrained(tmp_path / "out")
    assert generation.lang_to_id == {"<|en|>": 50259, "<|it|>": 50274}
    assert generation.task_to_id == {"translate": 50358, "transcribe": 50359}
    assert (generation.is_multilingual, generation.no_timestamps_token_id) == (True, 50363)
    assert (generation.suppress_tokens, generation.begin_suppress_tokens) == ([7], [220, 50257])
    assert generation.max_length == 448


def test_an_english_checkpoint(ct2_folder: Path, tmp_path: Path) -> None:
    convert(ct2_folder, tmp_path / "out")
    generation = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (generation.is_multilingual, generation.decoder_start_token_id) == (False, 50257)
    assert not hasattr(generation, "lang_to_id")
    network = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(network), logits(random_whisper()))


def test_the_folder_holds_what_a_processor_needs(ct2_folder: Path, tmp_path: Path) -> None:
    convert(ct2_folder, tmp_path / "out")
    processor = WhisperProcessor.from_pretrained(tmp_path / "out")
    assert processor.tokenizer.decode(processor.tokenizer(" Hello there", add_special_tokens=False).input_ids) == (
        " Hello there"
    )
    modes = {path.name: path.stat().st_mode & 0o044 for path in (tmp_path / "out").iterdir()}
    assert modes["model.safetensors"] == 0o044, "a cache on a shared disk is read by others"


def test_the_number_of_mel_bins_is_kept(ct2_folder: Path, tmp_path: Path) -> None:
    variables = ct2_variables(random_whisper())
    variables["encoder/conv1/weight"] = torch.randn(16, 128, 3)
    write_model(ct2_folder / "model.bin", variables)
    convert(ct2_folder, tmp_path / "out")
    assert WhisperFeatureExtractor.from_pretrained(tmp_path / "out").feature_size == 128


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(ct2_folder: Path, tmp_path: Path, name: str) -> None:
    (ct2_folder / name).unlink()
    with pytest.raises(UserError, match=f"no {name}"):
        convert(ct2_folder, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_file_is_named(ct2_folder: Path, tmp_path: Path, name: str, content: str) -> None:
    (ct2_folder / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}: ") as caught:
        convert(ct2_folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists(), "nothing is written before everything is read"


def test_int8_is_refused_before_anything_is_written(ct2_folder: Path, tmp_path: Path) -> None:
    variables = {
        name: value.to(torch.int8) if name.endswith("weight") else value
        for name, value in ct2_variables(random_whisper()).items()
    }
    write_model(ct2_folder / "model.bin", variables)
    with pytest.raises(UserError, match="quantised"):
        convert(ct2_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_incomplete_network_is_refused(ct2_folder: Path, tmp_path: Path) -> None:
    variables = ct2_variables(random_whisper())
    del variables["encoder/conv1/weight"]
    write_model(ct2_folder / "model.bin", variables)
    with pytest.raises(UserError, match=r"model\.bin: no variable 'encoder/conv1/weight'"):
        convert(ct2_folder, tmp_path / "out")
