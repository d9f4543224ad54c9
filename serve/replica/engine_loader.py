"""Where a replica's engines come from: loaded through a library that shares bases, or made by a function."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from asr.errors import UserError
from asr.inference import engine
from asr.inference.engine import Engine
from asr.inference.engine_pool import EnginePool
from asr.models.export import is_ctranslate2
from serve.config import ServeConfig
from serve.models.artifact_info import fingerprint, inspect, invented, weights_bytes
from serve.models.version import ArtifactInfo, Version

MakeEngine = Callable[[ServeConfig], Engine]


def load_engine(config: ServeConfig) -> Engine:
    """Load the configured model. Raises UserError where it is missing, damaged or no Whisper."""
    device = "cuda" if config.gpu else "cpu"
    return engine.load_engine(config.model, config.public_name, config.engine, device, config.threads)


class EngineLoader(Protocol):
    """Loads engines and gives their memory back. Everything but ``inspect`` is called by one thread at a time."""

    def inspect(self, artifact: str) -> ArtifactInfo:
        """Verify an artifact without loading it. Raises UserError."""

    def load(self, version: Version) -> tuple[Version, Engine]:
        """Load a version; return it with its fingerprint. Raises UserError where that is another one by now."""

    def unload(self, engine: Engine) -> None:
        """Give back what it takes."""

    def expected_nbytes(self, version: Version) -> int:
        """Return about how much memory loading it will take."""

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is loaded."""


class PooledEngineLoader:
    """Engines as the configuration asks for them, from ``asr.inference.engine_pool``."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._pool = EnginePool()

    def inspect(self, artifact: str) -> ArtifactInfo:
        """Verify digests and card."""
        return inspect(artifact)

    def load(self, version: Version) -> tuple[Version, Engine]:
        """Load it from disk or an address."""
        found = Version(version.artifact, fingerprint(version.artifact))
        if not version.is_met_by(found):
            raise UserError(
                f"{version.artifact} is not what it was: its fingerprint is {found.fingerprint}, "
                f"not {version.fingerprint}",
                "promote it anew, and keep each version in a folder of its own",
            )
        config = self._config
        unmerged = config.share_bases and config.engine == "auto" and not is_ctranslate2(version.artifact)
        engine = self._pool.load(
            version.artifact,
            config.narrowed(version.artifact).public_name,
            "torch" if unmerged else config.engine,
            "cuda" if config.gpu else "cpu",
            config.threads,
            share_bases=config.share_bases,
        )
        return found, engine

    def unload(self, engine: Engine) -> None:
        """Give back its weights, and a base that no other needs."""
        self._pool.unload(engine)
        del engine
        _trim()

    def expected_nbytes(self, version: Version) -> int:
        """Return the size of its files."""
        return weights_bytes(version.artifact, with_base=not self._config.share_bases)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, shared bases counted once."""
        return self._pool.nbytes


class MadeEngineLoader:
    """Engines that a function makes, which is given the configuration with the one model in it."""

    def __init__(self, config: ServeConfig, make_engine: MakeEngine) -> None:
        self._config = config
        self._make_engine = make_engine
        self._engines: list[Engine] = []

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


def _trim() -> None:
    """Give what was freed back to the system: glibc keeps most of it (CTranslate2's weights: all of 80 MB)."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def engine_loader_of(config: ServeConfig, make_engine: MakeEngine | None) -> EngineLoader:
    """Return the stock of a replica: the library, unless a function makes the engines."""
    return PooledEngineLoader(config) if make_engine is None else MadeEngineLoader(config, make_engine)
