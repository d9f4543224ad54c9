"""The sizes, held against transformers' own networks of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from asr.errors import UserError
from tests.asr.models.test_export import write_artifact
from train.capacity.shapes import SIZES, NetworkShape, read_shape, shape_of

MILLIONS = {"tiny": 39, "base": 74, "small": 244, "medium": 769, "large-v3": 1550, "large-v3-turbo": 809}


def counted(shape: NetworkShape) -> tuple[int, int]:
    """The parameters of encoder and decoder of transformers' network, built without memory for its weights."""
    with torch.device("meta"):
        network = WhisperForConditionalGeneration(WhisperConfig(**shape.config))
    halves = network.model.encoder, network.model.decoder
    assert network.num_parameters() == sum(half.num_parameters() for half in halves)  # the projection is tied
    return halves[0].num_parameters(), halves[1].num_parameters()


@pytest.mark.medium
@pytest.mark.parametrize("shape", sorted(set(SIZES.values()), key=lambda shape: shape.parameters), ids=str)
def test_parameters_are_counted_exactly(shape: NetworkShape) -> None:
    assert (shape.encoder_parameters, shape.decoder_parameters) == counted(shape)


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_sizes_are_those_that_openai_publishes(name: str, millions: int) -> None:
    assert SIZES[f"openai/whisper-{name}"].parameters / 1e6 == pytest.approx(millions, rel=0.04)


def test_a_builtin_checkpoint_has_the_size_of_the_hubs() -> None:
    assert shape_of("builtin:base") == SIZES["openai/whisper-base"]
    assert shape_of("builtin:tiny.en").vocabulary == 51864


def test_a_local_checkpoint_tells_its_size_itself(tmp_path: Path) -> None:
    config = WhisperConfig(
        d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=24
    )
    config.save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)) == NetworkShape(80, 16, 2, 3, 2, 24, 51865)


@pytest.mark.parametrize("content", ["{}", "not JSON", json.dumps({"num_mel_bins": "many"}), "[]"])
def test_a_config_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config.json: does not tell the size of a Whisper"):
        read_shape(tmp_path / "config.json")


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not tell the size"):
        shape_of(str(tmp_path))


def test_an_unknown_name_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(UserError, match="did you mean 'openai/whisper-large-v3'"):
        shape_of("openai/whisper-largev3")


@pytest.mark.medium
def test_an_artifact_has_the_shape_of_what_it_goes_back_to(tmp_path: Path) -> None:
    parent = write_artifact(tmp_path / "parent", "builtin:tiny.en")
    assert shape_of(str(parent)) == SIZES["openai/whisper-tiny.en"]
