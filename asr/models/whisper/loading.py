"""Loads a Whisper checkpoint as a network, ready to decode or to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.utils import logging

from asr.models.checkpoint import Checkpoint
from asr.models.family import SpeechModel
from asr.models.whisper.processor import load_processor, loading

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, WhisperForConditionalGeneration


def load_checkpoint(
    checkpoint: Checkpoint,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    quantization: BitsAndBytesConfig | None = None,
) -> SpeechModel:
    """Load a checkpoint found by ``find_checkpoint`` for inference. Raises UserError where it is no whole Whisper.

    ``quantization`` is a transformers quantization config: linear layers are then made on ``device`` as it says.
    """
    from asr.models.whisper.network import (
        AnyContextWhisper,  # three seconds, which processes without a network need not wait
    )

    logging.disable_progress_bar()  # a bar of 245 tensors says nothing to anybody
    processor = load_processor(checkpoint)
    with loading(checkpoint):
        network, found = AnyContextWhisper.from_pretrained(
            checkpoint.folder,
            dtype=dtype or torch.float32,
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
        processor,
        language=checkpoint.language,
        short_context=checkpoint.short_context,
    )


def untrained(folder: Path, dtype: torch.dtype) -> WhisperForConditionalGeneration:
    """Return a network as a folder's config.json has it, with weights as they are drawn. Raises UserError for none."""
    from transformers import WhisperConfig

    from asr.models.whisper.network import AnyContextWhisper

    with loading(Checkpoint(str(folder), folder, digest="")):
        if not (folder / "config.json").is_file():  # transformers would take its defaults
            raise ValueError("it has no config.json")
        config = WhisperConfig.from_pretrained(folder)
        return AnyContextWhisper._from_config(config, dtype=dtype)
