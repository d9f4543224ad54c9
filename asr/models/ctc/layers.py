"""Parts of a CTC network by their purpose: its head, its convolutional front, what LoRA adapts, what is not trained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LAYER = re.compile(r"\.layers?\.\d+\.")  # a block of the encoder; SEW-D says "layer"


def head_name(network: PreTrainedModel) -> str:
    """Return the name of the layer that gives each symbol its logit: ``lm_head``, ``ctc_head``.

    Raises ValueError where no layer beside the encoder has as many outputs as the config has symbols.
    """
    name: str
    for name, module in network.named_children():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.shape[0] == network.config.vocab_size:
            return name
    raise ValueError(f"{type(network).__name__} has no head of {network.config.vocab_size} symbols")


def feature_encoder(network: PreTrainedModel) -> nn.Module | None:
    """Return the convolutions that a network of raw waveforms begins with; None for one of spectrograms.

    What is trained with few hours leaves them as they are: see ``freeze_feature_encoder``.
    """
    found: nn.Module | None = getattr(network.base_model, "feature_extractor", None)
    return found


def freeze_feature_encoder(network: PreTrainedModel) -> None:
    """Train no convolution of the front, and keep no activation of it.

    To switch its weights off is not enough: transformers' front has its input ask for a gradient until it is told.
    """
    front = feature_encoder(network)
    if front is not None:
        front._freeze_parameters()


def freeze_unused(network: PreTrainedModel) -> None:
    """Freeze what no batch gives a gradient, as DDP would wait for it, and the sinusoids of Whisper's encoder.

    No position may be masked in a step, or ever: the vector that stands for those stays as it is. The convolutions over
    positions of a Conformer are never used, as its layers know positions by themselves.
    """
    inner = network.base_model
    unused = [getattr(inner, "masked_spec_embed", None)]
    if hasattr(inner.encoder, "embed_positions"):
        unused.append(getattr(inner.encoder, "pos_conv_embed", None))
        if isinstance(inner.encoder.embed_positions, nn.Embedding):
            unused.append(inner.encoder.embed_positions)
    for part in unused:
        if part is not None:
            part.requires_grad_(False)


def lora_targets(network: PreTrainedModel) -> list[str]:
    """Return the last names of the linear layers in the encoder's blocks, in alphabetical order.

    Not those whose weights are read without calling them, as WavLM does in its attention: LoRA would do nothing there.
    Nor the adapters of languages.
    """
    unheard = {
        id(part)
        for module in network.modules()
        if hasattr(module, "torch_multi_head_self_attention")
        for part in module.children()
    }
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in network.named_modules()
            if isinstance(module, nn.Linear)
            and _LAYER.search(name)
            and ".adapter" not in name
            and id(module) not in unheard
        }
    )
