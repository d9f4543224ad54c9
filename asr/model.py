"""A checkpoint or artifact ready to decode or to train: network, tokenizer and features in one value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import WhisperFeatureExtractor, WhisperTokenizer
from transformers.utils import logging

from asr.checkpoint import Checkpoint
from asr.errors import UserError
from asr.features import Context, LogMel
from asr.whisper import AnyContextWhisper


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


def load_processor(checkpoint: Checkpoint) -> tuple[WhisperTokenizer, LogMel]:
    """Load what turns text and sound into what the network takes, without the weights.

    Raises UserError where a file is missing or damaged.
    """
    # Without these transformers goes on, with an empty vocabulary, or stops each transcript after 20 tokens.
    for names in (("tokenizer.json", "vocab.json"), ("generation_config.json",)):
        if not any((checkpoint.folder / name).is_file() for name in names):
            raise UserError(
                f"checkpoint '{checkpoint.name}' has no {names[0]}", f"copy it to {checkpoint.folder} from its base"
            )
    with _loading(checkpoint):
        extractor = WhisperFeatureExtractor.from_pretrained(checkpoint.folder)
        return WhisperTokenizer.from_pretrained(checkpoint.folder), LogMel(extractor)


def load_checkpoint(
    checkpoint: Checkpoint, device: str = "cpu", dtype: torch.dtype = torch.float32, quantization: Any = None
) -> SpeechModel:
    """Load a checkpoint found by ``find_checkpoint`` for inference. Raises UserError where it is no whole Whisper.

    ``quantization`` is a transformers quantization config: linear layers are then made on ``device`` as it says.
    """
    logging.disable_progress_bar()  # a bar of 245 tensors says nothing to anybody
    tokenizer, log_mel = load_processor(checkpoint)
    with _loading(checkpoint):
        network, loading = AnyContextWhisper.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            quantization_config=quantization,
            device_map={"": device} if quantization else None,
        )
        if loading["missing_keys"]:  # transformers would go on with random values
            raise ValueError(f"it has no weights named {min(loading['missing_keys'])}")
    network.eval().to(device)
    return SpeechModel(checkpoint.name, checkpoint.digest, network, tokenizer, log_mel)


@contextmanager
def _loading(checkpoint: Checkpoint) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"checkpoint '{checkpoint.name}' cannot be loaded as Whisper: {reason}", str(checkpoint.folder)
        ) from error
