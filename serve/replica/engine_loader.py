"""Loads a replica's engines, and gives their memory back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from asr.inference import engine
from asr.inference.engine import Engine
from serve.config import ServeConfig
from serve.models.version import ArtifactInfo, Version


def load_engine(config: ServeConfig) -> Engine:
    """Load the configured model. Raises UserError where it is missing, damaged or of no known family."""
    return engine.load_engine(config.model, config.public_name, config.engine, config.device, config.threads)


class EngineLoader(Protocol):
    """Loads engines and gives their memory back. One thread at a time loads or unloads."""

    def require(self, artifact: str) -> None:
        """Raise UserError if an artifact cannot be had here; one at an address is fetched."""

    def inspect(self, artifact: str) -> ArtifactInfo:
        """Verify an artifact without loading it. Raises UserError."""

    def load(self, version: Version) -> tuple[Version, Engine]:
        """Load a version; return it with its fingerprint. Raises UserError if its files have changed."""

    def unload(self, engine: Engine) -> None:
        """Free the memory of an engine."""

    def expected_nbytes(self, version: Version) -> int:
        """Return about how much memory loading it will take."""

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is loaded."""


MakeLoader = Callable[[ServeConfig], EngineLoader]
"""Makes the loader of a replica, in its process."""
