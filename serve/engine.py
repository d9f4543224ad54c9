"""What turns clips into transcripts, in a replica or in process: a protocol, so that a test can bring its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from asr.artifact import load_model
from asr.decode import Clip, Transcript, decode
from asr.features import Context, LogMel
from asr.labels import is_multilingual
from asr.model import SpeechModel
from serve.config import ServeConfig


@dataclass(frozen=True)
class ModelInfo:
    """What must be known of a model, without its weights, to prepare a request for it.

    ``languages`` are the codes it has tokens for, ``language`` what is spoken where a request names none (None: it is
    detected).
    """

    name: str
    languages: frozenset[str]
    language: str | None
    context: Context
    log_mel: LogMel


class Engine(Protocol):
    """A model that is ready to decode."""

    @property
    def info(self) -> ModelInfo:
        """What a request needs to know of it."""

    def decode(self, clips: Sequence[Clip]) -> list[Transcript]:
        """Transcribe clips, in their order. Called from one thread at a time."""


@dataclass(frozen=True)
class TorchEngine:
    """Transformers weights, with an artifact's adapter merged into them."""

    model: SpeechModel
    info: ModelInfo

    def decode(self, clips: Sequence[Clip]) -> list[Transcript]:
        """Transcribe through the decoding function that evaluation uses."""
        return decode(self.model, clips, self.info.context)


def load_engine(config: ServeConfig) -> Engine:
    """Load the configured model. Raises UserError where it is missing, damaged or no Whisper."""
    torch.set_num_threads(config.threads)
    device, dtype = ("cuda", torch.float16) if config.gpu else ("cpu", torch.float32)
    model = load_model(config.model, device, dtype)
    english_only = not is_multilingual(model.tokenizer)
    known = ["<|en|>"] if english_only else model.network.generation_config.lang_to_id
    info = ModelInfo(
        name=config.public_name,
        languages=frozenset(token.strip("<|>") for token in known),
        language="en" if english_only else model.language,
        context=model.context,
        log_mel=model.log_mel,
    )
    return TorchEngine(model, info)
