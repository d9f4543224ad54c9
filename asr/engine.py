"""What turns clips into transcripts, in a replica or in process: a protocol, so that a test can bring its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, Protocol

import torch

from asr.artifact import load_model
from asr.clip import Clip, Transcript
from asr.ctranslate import CTranslateModel
from asr.decode import decode
from asr.export import Quantization, is_ctranslate2
from asr.features import Context, LogMel
from asr.hearing import hear
from asr.labels import is_multilingual
from asr.model import SpeechModel

EngineName = Literal["torch", "ctranslate2"]


@dataclass(frozen=True)
class ModelInfo:
    """What must be known of a model, without its weights, to prepare a request for it.

    ``languages`` are the codes it has tokens for, ``language`` what is spoken where a request names none (None: it is
    detected). ``engine`` is what runs it.
    """

    name: str
    languages: frozenset[str]
    language: str | None
    context: Context
    log_mel: LogMel
    engine: EngineName = "torch"


class Engine(Protocol):
    """A model that is ready to decode."""

    @property
    def info(self) -> ModelInfo:
        """What a request needs to know of it."""

    def decode(self, clips: Sequence[Clip]) -> list[Transcript]:
        """Transcribe clips of any mix, in their order. Called from one thread at a time."""


@dataclass(frozen=True)
class TorchEngine:
    """Transformers weights, with an artifact's adapter merged into them."""

    model: SpeechModel
    info: ModelInfo

    def decode(self, clips: Sequence[Clip]) -> list[Transcript]:
        """Transcribe through the decoding function that evaluation uses, with its quality ladder."""
        return decode(self.model, clips, self.info.context, fallback=True)


@dataclass(frozen=True)
class CTranslateEngine:
    """The same weights exported, and quantised, for CTranslate2."""

    model: CTranslateModel
    info: ModelInfo

    def decode(self, clips: Sequence[Clip]) -> list[Transcript]:
        """Transcribe as the other engine does, up to what quantisation changes."""
        return hear(self.model, clips, self.info.context, fallback=True)


def load_engine(
    name: str,
    public_name: str,
    engine: Literal["auto", "torch", "ctranslate2"] = "auto",
    device: str = "cpu",
    threads: int = 0,
    quantization: Quantization | None = None,
) -> Engine:
    """Load whatever ``name`` names: artifact, checkpoint or export. ``threads`` 0 leaves their number as it is.

    ``quantization`` is CTranslate2's; without, int8 on a CPU and float16 on a GPU. ``auto`` takes CTranslate2 for what
    was exported for it, and on a CPU where it is installed; else torch. Raises UserError where the model is missing,
    damaged or no Whisper, or the engine is not installed.
    """
    chosen = choose(name, device) if engine == "auto" else engine
    if chosen == "ctranslate2":
        return _ctranslate_engine(CTranslateModel.load(name, device, threads, quantization), public_name)
    if threads:
        torch.set_num_threads(threads)
    return _torch_engine(load_model(name, device, torch.float32 if device == "cpu" else torch.float16), public_name)


def choose(name: str, device: str) -> EngineName:
    """Return the engine that ``auto`` stands for."""
    if is_ctranslate2(name):
        return "ctranslate2"
    return "ctranslate2" if device == "cpu" and find_spec("ctranslate2") else "torch"


def _torch_engine(model: SpeechModel, public_name: str) -> TorchEngine:
    english_only = not is_multilingual(model.tokenizer)
    known = ["<|en|>"] if english_only else model.network.generation_config.lang_to_id
    info = ModelInfo(
        name=public_name,
        languages=frozenset(token.strip("<|>") for token in known),
        language="en" if english_only else model.language,
        context=model.context,
        log_mel=model.log_mel,
        engine="torch",
    )
    return TorchEngine(model, info)


def _ctranslate_engine(model: CTranslateModel, public_name: str) -> CTranslateEngine:
    info = ModelInfo(
        name=public_name,
        languages=model.known_languages,
        language="en" if model.known_languages == {"en"} else model.language,
        context="short" if model.short_context else "full",
        log_mel=model.log_mel,
        engine="ctranslate2",
    )
    return CTranslateEngine(model, info)
