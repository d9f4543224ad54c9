"""Engines turn clips into transcripts, in a replica or in process: a protocol, so that a test can bring its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol
from uuid import uuid4

import torch

from asr.errors import UserError
from asr.inference.known_model import only
from asr.inference.model_info import ModelInfo
from asr.models.artifact import fetched, is_artifact, load_model, read_card
from asr.models.backends import FastModel, NotExportable, SharedBase
from asr.models.checkpoint import builtin_names, find_checkpoint
from asr.models.export import engine_of_export
from asr.models.export_formats import EngineChoice, EngineName, Quantization
from asr.models.family import WHISPER, Family, SpeechModel, family_named, family_of, num_bytes
from asr.transcript import DecodingRequest, Transcript

_log = logging.getLogger(__name__)

DTYPES = {"cpu": torch.float32, "cuda": torch.float16}  # of torch's weights


class Engine(Protocol):
    """A model that is ready to decode."""

    @property
    def info(self) -> ModelInfo:
        """The facts about the model that a request needs."""

    @property
    def nbytes(self) -> int:
        """Bytes of its weights; of an adapter on a shared base, the adapter's alone."""

    @property
    def group(self) -> str:
        """Clips of engines with the same group can be decoded in one call of ``decode_together``."""

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        """Transcribe clips of any mix, in their order. Call it from one thread at a time."""


def _alone() -> str:
    return uuid4().hex


@dataclass(frozen=True, eq=False)
class TorchEngine:
    """Transformers weights, with an artifact's adapter merged into them."""

    model: SpeechModel
    info: ModelInfo
    group: str = field(default_factory=_alone)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return num_bytes(self.model.network)

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        """Transcribe through the decoding function that evaluation uses, with its temperature fallback."""
        return self.model.transcribe(clips, self.info.context, fallback=True)


@dataclass(frozen=True, eq=False)
class AdapterEngine:
    """An adapter on a base that others share, or (``NO_ADAPTER``) that base itself."""

    base: SharedBase
    adapter: str
    info: ModelInfo
    nbytes: int  # of the adapter's weights; of the base's, where it is that

    @property
    def group(self) -> str:
        """The same for all engines on one base."""
        return self.base.group

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        """Transcribe as the same weights merged do, up to rounding."""
        return _decode_mixed([self] * len(clips), clips)


@dataclass(frozen=True, eq=False)
class FastEngine:
    """The same weights exported, and quantised, for the family's engine beside torch."""

    model: FastModel
    info: ModelInfo
    group: str = field(default_factory=_alone)

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return self.model.nbytes

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        """Transcribe as the other engines do, up to what quantisation changes."""
        return self.model.transcribe(clips, self.info.context, fallback=True)


def decode_together(engines: Sequence[Engine], clips: Sequence[DecodingRequest]) -> list[Transcript]:
    """Transcribe each clip with its own engine, with the results of ``engine.decode``, in the order of the clips.

    All engines are of one group. Call it from one thread at a time for a group. Raises ValueError for
    engines of several groups.
    """
    if len({engine.group for engine in engines}) > 1:
        raise ValueError("these engines are of different groups")
    adapters = [engine for engine in engines if isinstance(engine, AdapterEngine)]
    if len(adapters) == len(engines):
        return _decode_mixed(adapters, clips)
    transcripts: dict[int, Transcript] = {}
    for engine in {id(engine): engine for engine in engines}.values():
        own = [i for i, other in enumerate(engines) if other is engine]
        transcripts.update(zip(own, engine.decode([clips[i] for i in own]), strict=True))
    return [transcripts[i] for i in range(len(clips))]


def _decode_mixed(engines: Sequence[AdapterEngine], clips: Sequence[DecodingRequest]) -> list[Transcript]:
    """Decode clips of each context, which an adapter is trained for or not, through the one network."""
    if not clips:
        return []
    transcripts: dict[int, Transcript] = {}
    with engines[0].base.busy() as model:
        for context in sorted({engine.info.context for engine in engines}):
            own = [i for i, engine in enumerate(engines) if engine.info.context == context]
            adapters = [engines[i].adapter for i in own]
            decoded = model.transcribe([clips[i] for i in own], context, fallback=True, adapters=adapters)
            transcripts.update(zip(own, decoded, strict=True))
    return [transcripts[i] for i in range(len(clips))]


def load_engine(
    name: str,
    public_name: str,
    engine: EngineChoice = "auto",
    device: str = "cpu",
    threads: int = 0,
    quantization: Quantization | None = None,
) -> Engine:
    """Load the model ``name``: an artifact, a checkpoint or an export. ``threads`` 0 leaves their number as it is.

    ``quantization`` is that of an engine beside torch; without, int8 on a CPU and float16 on a GPU. ``auto`` takes the
    family's own for an export for it, and wherever it loads; else torch. Raises UserError where the model is missing,
    damaged or of no known family, or the engine is not installed or another family's.
    """
    chosen = choose(name, device) if engine == "auto" else engine
    if chosen != "torch":
        family = family_of_model(name)
        if chosen != family.fast_engine:
            what = f"'{name}' is of the family {family.name}, which engine={chosen} does not run"
            raise UserError(what, f"use engine=auto, torch or {family.fast_engine}")
        try:
            return _fast_engine(family, family.load_fast(name, device, threads, quantization), public_name)
        except NotExportable as error:
            if engine != "auto":
                raise
            _log.warning("%s: it runs on torch", error.message)
    if threads:
        torch.set_num_threads(threads)
    model = load_model(name, device, DTYPES[device])
    return TorchEngine(model, info_of(model, public_name))


def choose(name: str, device: str) -> EngineName:
    """Return the engine that ``auto`` stands for."""
    if exported := engine_of_export(name):
        return exported
    family = family_of_model(name)
    return family.fast_engine if family.runs_fast(device) else "torch"


def family_of_model(name: str) -> Family:
    """Return the family of the model ``name``; see ``load_model``."""
    folder = fetched(name)
    if is_artifact(folder):
        return family_named(read_card(folder).family)
    if name in builtin_names():
        return family_named(WHISPER)
    return family_of(folder if folder.is_dir() else find_checkpoint(name).folder)


def info_of(model: SpeechModel, public_name: str) -> ModelInfo:
    """Return the facts about a torch model that a request needs."""
    languages = model.family.languages(model)
    return ModelInfo(
        name=public_name,
        languages=languages,
        language=only(languages) or model.language,
        context=model.context,
        features=model.features,
        engine="torch",
        precision=str(model.network.dtype).removeprefix("torch."),
        family=model.family.name,
        refusals=model.family.refusals(languages),
        speech_s=model.speech_s,
    )


def _fast_engine(family: Family, model: FastModel, public_name: str) -> FastEngine:
    info = ModelInfo(
        name=public_name,
        languages=model.known_languages,
        language=only(model.known_languages) or model.language,
        context="short" if model.short_context else "full",
        features=model.features,
        engine=family.fast_engine,
        precision=model.quantization,
        family=family.name,
        refusals=family.refusals(model.known_languages),
        speech_s=model.speech_s,
    )
    return FastEngine(model, info)
