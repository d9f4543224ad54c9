"""Real networks of a few thousand weights, adapted by our own code, beside the setup that describes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import WhisperConfig

from asr.whisper import AnyContextWhisper
from train.adapter import LoraSettings, adapt, has_adapter
from train.capacity.setup import Adapters, Setup
from train.capacity.shapes import Shape

SMALL = Shape(mels=80, width=64, encoder_layers=2, decoder_layers=3, heads=2, hidden=256, vocabulary=1000)
ADAPTERS = Adapters(rank=8, dropout=0.05, target_modules=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))

MakeSetup = Callable[..., Setup]  # the fixture of the same name


def whisper(shape: Shape, dtype: torch.dtype = torch.float32) -> AnyContextWhisper:
    """A network of that shape with random weights."""
    config = WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=shape.mels,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.hidden,
        decoder_ffn_dim=shape.hidden,
        max_source_positions=shape.encoder_positions,
        max_target_positions=shape.decoder_positions,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
        use_cache=False,
    )
    return AnyContextWhisper._from_config(config, dtype=dtype)


def trainable(setup: Setup) -> Any:
    """The network that a setup describes, with what it trains requiring gradients."""
    frozen_half = has_adapter(setup.strategy) and setup.precision == "bf16"
    network = whisper(setup.shape, torch.bfloat16 if frozen_half else torch.float32)
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
