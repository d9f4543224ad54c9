"""A checkpoint or artifact ready to decode or to train: network, tokenizer and features in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import WhisperTokenizer
from transformers.utils import logging

from asr.audio.features import Context, LogMel
from asr.models.checkpoint import Checkpoint
from asr.models.whisper.processor import load_processor, loading

if TYPE_CHECKING:
    from asr.models.whisper.network import AnyContextWhisper


@dataclass(frozen=True)
class SpeechModel:
    """A Whisper network with its tokenizer and features; the last two fields come from an artifact's card.

    ``language`` is what the model was fine-tuned for (None: any); ``short_context`` whether it was trained to hear
    clips shorter than 30 s without padding.
    """

    name: str
    digest: str
    network: AnyContextWhisper
    tokenizer: WhisperTokenizer
    log_mel: LogMel
    language: str | None = None
    short_context: bool = False

    @property
    def context(self) -> Context:
        """The audio context that the model decodes best in."""
        return "short" if self.short_context else "full"


def best_device() -> str:
    """Return ``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_checkpoint(
    checkpoint: Checkpoint, device: str = "cpu", dtype: torch.dtype = torch.float32, quantization: Any = None
) -> SpeechModel:
    """Load a checkpoint found by ``find_checkpoint`` for inference. Raises UserError where it is no whole Whisper.

    ``quantization`` is a transformers quantization config: linear layers are then made on ``device`` as it says.
    """
    from asr.models.whisper.network import (
        AnyContextWhisper,  # three seconds, which processes without a network need not wait
    )

    logging.disable_progress_bar()  # a bar of 245 tensors says nothing to anybody
    tokenizer, log_mel = load_processor(checkpoint)
    with loading(checkpoint):
        network, found = AnyContextWhisper.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            quantization_config=quantization,
            device_map={"": device} if quantization else None,
        )
        if found["missing_keys"]:  # transformers would go on with random values
            raise ValueError(f"it has no weights named {min(found['missing_keys'])}")
    network.eval().to(device)
    return SpeechModel(
        checkpoint.name,
        checkpoint.digest,
        network,
        tokenizer,
        log_mel,
        language=checkpoint.language,
        short_context=checkpoint.short_context,
    )
