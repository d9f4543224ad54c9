"""Chooses a network's trained weights: all of them, all but the encoder's, or adapters beside frozen ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from asr.errors import UserError, one_line
from asr.models.checkpoint import Checkpoint
from asr.models.family import SpeechModel, family_of, family_of_network, load_checkpoint
from asr.models.regularisation import Regularisation
from train.trainer.strategy import FROZEN, LoraSettings, Precision, Strategy, has_adapter

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

_NONE = Regularisation()
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def base_dtype(strategy: Strategy, precision: Precision) -> torch.dtype:
    """Return how the base's weights are kept: in the arithmetic's precision where only an adapter is trained.

    Weights that are trained themselves are float32, and whoever computes rounds them for it.
    """
    return _DTYPES[precision] if has_adapter(strategy) else torch.float32


def load_base(checkpoint: Checkpoint, strategy: Strategy, precision: Precision, device: str = "cpu") -> SpeechModel:
    """Load what training starts from, on the CPU or (qlora) in 4-bit NormalFloat on ``device``.

    Raises UserError where the checkpoint is no whole network.
    """
    dtype = base_dtype(strategy, precision)
    if strategy == "qlora":
        return load_checkpoint(checkpoint, device, dtype, four_bit(dtype, family_of(checkpoint.folder).unquantized))
    return load_checkpoint(checkpoint, dtype=dtype)


def four_bit(dtype: torch.dtype, kept: Sequence[str]) -> BitsAndBytesConfig:
    """Return settings for linear layers in 4-bit NormalFloat but those ``kept``, computed in ``dtype``."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(kept),
    )


def adapt(
    network: PreTrainedModel, strategy: Strategy, settings: LoraSettings, wanted: Regularisation = _NONE
) -> PreTrainedModel | PeftModel:
    """Return the network with the strategy's weights, and no others, requiring gradients, and regularised as wanted."""
    family = family_of_network(network)
    family.regularise(network, wanted)
    if not has_adapter(strategy):
        family.freeze(network, FROZEN[strategy])
        return network
    layers = family.layers(network)
    # Without a task_type: PEFT's sequence-to-sequence wrapper feeds `input_ids`, which Whisper's encoder does not take.
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules or layers.linears),
        modules_to_save=list(layers.head) or None,
        use_dora=strategy == "dora",
    )
    network.name_or_path = ""  # else PEFT asks the hub about the base whenever a checkpoint is written
    try:
        adapted = get_peft_model(network, config)
    except ValueError as error:
        if not settings.target_modules:
            raise
        linears = (name for name, part in network.named_modules() if isinstance(part, nn.Linear))
        names = sorted({name.rpartition(".")[2] for name in linears})
        what = f"lora.target_modules={','.join(settings.target_modules)}: {one_line(error)}"
        raise UserError(what, f"its linear layers are {', '.join(names)}") from None
    for weight in adapted.parameters():
        if weight.requires_grad:  # PEFT makes those of adapters float32, and leaves layers trained whole as they are
            weight.data = weight.data.float()
    return adapted
