"""The sizes, held against transformers' own networks of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from asr.errors import UserError
from asr.models.whisper.family import FAMILY
from asr.models.whisper.shapes import SIZES, NetworkShape

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


@pytest.mark.parametrize("content", ["{}", "not JSON", json.dumps({"num_mel_bins": "many"}), "[]"])
def test_a_config_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config.json: does not tell the size of a Whisper"):
        FAMILY.size(tmp_path)
