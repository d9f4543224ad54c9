"""A CTC network in torch: logits of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from asr.models.inference_mode import inference_mode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MAX_BATCH_CLIPS = {"cpu": 16, "cuda": 128}


@dataclass(frozen=True)
class TorchEmitter:
    """A network for ``batch_decode``."""

    network: PreTrainedModel

    @property
    def max_batch_clips(self) -> int:
        """As many clips as suit the device."""
        return _MAX_BATCH_CLIPS[str(self.network.device.type)]

    @inference_mode
    def logits(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return [B, T, V] of what ``ClipFeatures.pad_batch`` makes."""
        network = self.network
        inputs = {
            name: tensor.to(network.device, network.dtype if tensor.is_floating_point() else None)
            for name, tensor in batch.items()
        }
        with torch.autocast(network.device.type, network.dtype, enabled=self._is_mixed):
            logits: torch.Tensor = network(**inputs).logits
        return logits

    @cached_property
    def _is_mixed(self) -> bool:
        """True of a network in training whose base is in half precision, and whose head and adapters are not."""
        return len({weight.dtype for weight in self.network.parameters() if weight.is_floating_point()}) > 1
