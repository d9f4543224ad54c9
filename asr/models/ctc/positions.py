"""Positions of a CTC network: how many a clip has, how long one is, and what the network says of padding.

Legend: B rows, T positions, V symbols. A network takes frames: samples of a waveform, or columns of a spectrogram.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CTC_MAPPING

import asr.models.ctc.whisper_ctc  # noqa: F401  # registers itself

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutput

# Transformers' own formulas, of which each class has one. They read its config only.
_FORMULAS = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")

# A logit so low that a symbol is out of the question, and that every float type holds: float16 ends at 65504.
_NEVER = -10_000.0


def network_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class of the network that a config describes. Raises ValueError where it is none for CTC."""
    if type(config) not in MODEL_FOR_CTC_MAPPING:
        raise ValueError(f"'{config.model_type}' is no network for CTC that transformers knows")
    found: type[PreTrainedModel] = MODEL_FOR_CTC_MAPPING[type(config)]
    return found


def positions(config: PreTrainedConfig, num_frames: int) -> int:
    """Return how many positions so many frames have: at most so many symbols are said of them. Needs no weights."""
    found: list[int] = _lengths(config, torch.tensor([num_frames])).tolist()
    return found[0]


def frames_per_position(config: PreTrainedConfig) -> int:
    """Return how many frames further the next position begins: 320 samples in wav2vec 2.0, 8 columns in Parakeet."""
    many = 1_440_000  # divides by all strides there are, and float32, in which Parakeet counts, holds it
    first, last = _lengths(config, torch.tensor([many, 2 * many])).tolist()
    step: int = round(many / (last - first))
    return step


def position_s(config: PreTrainedConfig, frame_s: float) -> float:
    """Return the seconds of one position; ``frame_s`` are those of a frame, as ``ClipFeatures.frame_s`` has it."""
    return frames_per_position(config) * frame_s


def frame_lengths(network: nn.Module, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the positions of each row, int64 [B], of a mask [B, frames] that is 1 on a row's own frames."""
    return _lengths(network.config, attention_mask.sum(dim=-1))


def _lengths(config: PreTrainedConfig, frames: torch.Tensor) -> torch.Tensor:
    kind = network_class(config)
    formula = next((getattr(kind, name) for name in _FORMULAS if hasattr(kind, name)), None)
    if formula is None:
        raise ValueError(f"transformers does not say how many positions {kind.__name__} has")
    lengths: torch.Tensor = formula(SimpleNamespace(config=config), frames)
    return lengths.to(torch.int64).clamp(min=0)


def blank_padding(network: PreTrainedModel) -> None:
    """Have a network say "blank for certain" at the positions of padding, in ``output.logits`` [B, T, V].

    The CTC loss over all T is then that over each row's own positions, and greedy decoding needs no lengths. No
    gradient comes from there. Where the network is given no ``attention_mask``, nothing is padding.
    """
    network.register_forward_hook(_say_blank, with_kwargs=True)


def _say_blank(
    network: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: CausalLMOutput
) -> CausalLMOutput:
    mask_BF = kwargs.get("attention_mask")
    if not isinstance(mask_BF, torch.Tensor):
        return output
    logits_BTV = output.logits
    lengths_B = frame_lengths(network, mask_BF)
    padding_BT = torch.arange(logits_BTV.shape[1], device=logits_BTV.device) >= lengths_B[:, None]
    blank_V = torch.full_like(logits_BTV[0, 0], _NEVER)
    blank_V[network.config.pad_token_id] = 0.0
    output.logits = torch.where(padding_BT[..., None], blank_V, logits_BTV)
    return output


def has_type(model_type: str) -> bool:
    """Return whether a ``model_type`` of a config.json is that of a network for CTC."""
    return model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in MODEL_FOR_CTC_MAPPING
