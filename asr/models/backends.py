"""Models that run otherwise than alone in torch: in another engine, or as adapters on one base."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from asr.audio.features import Context
from asr.errors import UserError
from asr.models.processor import Features
from asr.transcript import DecodingRequest, Transcript

if TYPE_CHECKING:
    from asr.models.family import SpeechModel


class SharedBase(Protocol):
    """A base network held once, with named adapters that come and go while others are being decoded with."""

    group: str
    """Clips of all that share it can be decoded in one call."""

    @property
    def nbytes(self) -> int:
        """Bytes of the base's weights and of all adapters."""

    @property
    def model(self) -> SpeechModel:
        """The base without adapters. Raises ValueError once it has been closed."""

    def adapter_nbytes(self, name: str) -> int:
        """Bytes of one adapter's weights."""

    def busy(self) -> AbstractContextManager[SpeechModel]:
        """Hand out the network with all its adapters, to one thread at a time."""

    def add(self, folder: Path) -> str:
        """Load the adapter in ``folder`` and return its name here. Raises UserError where it does not fit."""

    def remove(self, name: str) -> None:
        """Forget an adapter; its memory is free when nothing is decoded with it any more."""

    def close(self) -> None:
        """Release all weights, even if somebody still holds this base."""


class NotExportable(UserError):
    """A network that its family's engine beside torch cannot run, while torch can."""


class FastModel(Protocol):
    """A model in another engine than torch; ``known_languages`` are codes, ``quantization`` is of its weights."""

    @property
    def features(self) -> Features: ...
    @property
    def known_languages(self) -> frozenset[str]: ...
    @property
    def language(self) -> str | None: ...
    @property
    def short_context(self) -> bool: ...
    @property
    def speech_s(self) -> float | None: ...
    @property
    def quantization(self) -> str: ...
    @property
    def nbytes(self) -> int: ...

    def transcribe(
        self, requests: Sequence[DecodingRequest], context: Context, fallback: bool = False
    ) -> list[Transcript]:
        """Transcribe as ``SpeechModel.transcribe`` does, up to what quantisation changes."""
