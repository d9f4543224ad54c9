"""Engines that a function makes, in a replica: a fake one, or one that answers at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

from asr.inference.engine import Engine
from serve.config import ServeConfig
from serve.models.version import ArtifactInfo, Version
from serve.replica.engine_loader import MakeLoader

MakeEngine = Callable[[ServeConfig], Engine]


def invented(artifact: str) -> str:
    """Return a fingerprint for what has no files."""
    return hashlib.sha256(artifact.encode()).hexdigest()[:12]


class MadeEngineLoader:
    """Engines that a function makes, which is given the configuration with the one model in it."""

    def __init__(self, config: ServeConfig, make_engine: MakeEngine) -> None:
        self._config = config
        self._make_engine = make_engine
        self._engines: list[Engine] = []

    def require(self, artifact: str) -> None:
        """Whatever it is called, it can be made."""

    def inspect(self, artifact: str) -> ArtifactInfo:
        """Take it as it is."""
        return ArtifactInfo(Version(artifact, invented(artifact)), "made by a function")

    def load(self, version: Version) -> tuple[Version, Engine]:
        """Make it."""
        engine = self._make_engine(self._config.narrowed(version.artifact))
        self._engines.append(engine)
        return Version(version.artifact, invented(version.artifact)), engine

    def unload(self, engine: Engine) -> None:
        """Forget it."""
        self._engines = [other for other in self._engines if other is not engine]

    def expected_nbytes(self, version: Version) -> int:
        """Nobody knows."""
        return 0

    @property
    def nbytes(self) -> int:
        """Bytes of what they say of themselves."""
        return sum(engine.nbytes for engine in self._engines)


def made(make_engine: MakeEngine) -> MakeLoader:
    """Have a replica's engines made by a function, which is given the configuration with the one model in it."""
    return partial(MadeEngineLoader, make_engine=make_engine)
