"""Real networks of a few thousand weights, adapted by our own code, beside the setup that describes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import WhisperConfig

from asr.models.whisper.network import AnyContextWhisper
from train.capacity.setup import Adapters, Setup
from train.capacity.shapes import NetworkShape
from train.trainer.adapter import adapt, base_dtype
from train.trainer.strategy import LoraSettings

SMALL = NetworkShape(mels=80, width=64, encoder_layers=2, decoder_layers=3, heads=2, hidden=256, vocabulary=1000)
ADAPTERS = Adapters(rank=8, dropout=0.05, target_modules=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))

MakeSetup = Callable[..., Setup]  # the fixture of the same name


def whisper(shape: NetworkShape, dtype: torch.dtype = torch.float32) -> AnyContextWhisper:
    """A network of that shape with random weights."""
    return AnyContextWhisper._from_config(WhisperConfig(**shape.config, use_cache=False), dtype=dtype)


def trainable(setup: Setup) -> Any:
    """The network that a setup describes, with what it trains requiring gradients."""
    network = whisper(setup.shape, base_dtype(setup.strategy, setup.precision))
    adapters = setup.adapters
    lora = LoraSettings(rank=adapters.rank, dropout=adapters.dropout, target_modules=adapters.target_modules)
    network = adapt(network, setup.strategy, lora).train()
    if setup.checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    return network


def inputs(setup: Setup) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Random features and tokens of the setup's batch, and the labels."""
    batch = setup.batch
    features = torch.randn(batch.clips, setup.shape.mels, 2 * batch.positions)
    tokens = torch.randint(1, setup.shape.vocabulary, (batch.clips, batch.tokens))
    return {"input_features": features, "decoder_input_ids": tokens}, tokens
