"""Regularisation of CTC networks: transformers' own dropping of layers and masking of time and features, by a config.

Statistics of a norm over a batch are no regularisation: they stay the checkpoint's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from torch import nn

from asr.errors import UserError
from asr.models.ctc.layers import feature_encoder
from asr.models.regularisation import Regularisation

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_LAYERDROP = ("layerdrop", "encoder_layerdrop")
_POSITION_S = 0.02  # of all networks of waveforms


class SteadyBatchNorm(nn.BatchNorm1d):
    """A norm by the statistics of the checkpoint, in training too.

    Those of a micro-batch would hang on the clips that share it and on their padding, and an adapter does not hold what
    was gathered of them.
    """

    def train(self, mode: bool = True) -> Self:
        """Stay as in decoding."""
        super().train(False)
        return self


def regularise(network: PreTrainedModel, wanted: Regularisation) -> None:
    """Have a network leave out what is wanted of each training step, and nothing else, whatever its checkpoint says.

    Raises UserError where it has no layers that it can leave out.
    """
    if not drop_layers(network.config, wanted.layerdrop) and wanted.layerdrop:
        raise UserError(f"ctc.layerdrop: {type(network).__name__} leaves out no layer", "leave ctc.layerdrop out")
    for module in network.modules():
        if isinstance(getattr(module, "layerdrop", None), float):
            module.layerdrop = wanted.layerdrop
        if type(module) is nn.BatchNorm1d:
            module.__class__ = SteadyBatchNorm
            module.eval()
    if hasattr(network.config, "mask_time_prob"):
        _mask(network, wanted)


def drop_layers(config: PreTrainedConfig, probability: float) -> bool:
    """Set the probability of a layer to be left out of a training step. Returns whether the network knows of any."""
    parts = list(_parts(config))
    for part, name in parts:
        setattr(part, name, probability)
    return bool(parts)


def _parts(config: PreTrainedConfig) -> Iterator[tuple[PreTrainedConfig, str]]:
    for part in (config, *(getattr(config, name) for name in getattr(config, "sub_configs", {}))):
        for name in _LAYERDROP:
            if hasattr(part, name):
                yield part, name


def _mask(network: PreTrainedModel, wanted: Regularisation) -> None:
    """Mask as the config has it: a stretch may be as long as it was in the checkpoint's own training, never longer.

    Clips are padded to more positions than that (``load_features``), and transformers refuses a batch of fewer.
    """
    config, hears_waveforms = network.config, feature_encoder(network) is not None
    config.apply_spec_augment = hears_waveforms and (wanted.time_share > 0 or wanted.feature_share > 0)
    config.mask_time_prob = wanted.time_share if hears_waveforms else 0.0
    config.mask_feature_prob = wanted.feature_share if hears_waveforms else 0.0
    config.mask_time_min_masks = config.mask_feature_min_masks = 0
    if config.mask_time_prob:
        config.mask_time_length = max(1, min(config.mask_time_length, round(wanted.stretch_s / _POSITION_S)))
    if config.mask_feature_prob:
        config.mask_feature_length = max(1, round(wanted.band_share * config.hidden_size))
