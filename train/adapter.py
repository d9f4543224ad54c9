"""Which weights are trained: LoRA adapters on the linear layers, or everything."""

from __future__ import annotations

from typing import Literal

from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field
from transformers import PreTrainedModel

from asr.config import Section

Strategy = Literal["lora", "full"]


class LoraSettings(Section):
    """LoRA adapters (Hu et al., 2021)."""

    rank: int = Field(32, ge=1)
    """Rank of each update."""
    alpha: int = Field(64, ge=1)
    """Scale of the updates, relative to the rank."""
    dropout: float = Field(0.05, ge=0.0, lt=1.0)
    """Dropout before each adapter."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    """Linear layers, in encoder and decoder, that get an adapter."""


def adapt(network: PreTrainedModel, strategy: Strategy, settings: LoraSettings) -> PreTrainedModel | PeftModel:
    """Return the network with the strategy's weights, and no others, requiring gradients."""
    if strategy == "full":
        network.requires_grad_(True)
        network.model.encoder.embed_positions.requires_grad_(False)  # sinusoids, never trained by OpenAI either
        return network
    # Without a task_type: PEFT's sequence-to-sequence wrapper feeds `input_ids`, which Whisper's encoder does not take.
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
    )
    network.name_or_path = ""  # else PEFT asks the hub about the base whenever a checkpoint is written
    return get_peft_model(network, config)
