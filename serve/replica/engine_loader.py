"""Loads a replica's engines, and gives their memory back."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from asr.errors import UserError
from asr.inference import engine
from asr.inference.engine import Engine
from asr.inference.engine_pool import EnginePool
from asr.models.artifact import fetched, find_base, is_artifact, read_card
from asr.models.checkpoint import find_checkpoint
from asr.models.export import is_ctranslate2, read_export
from serve.config import ServeConfig
from serve.models.artifact_info import fingerprint, inspect, weights_bytes
from serve.models.version import ArtifactInfo, Version


def load_engine(config: ServeConfig) -> Engine:
    """Load the configured model. Raises UserError where it is missing, damaged or no Whisper."""
    device = "cuda" if config.gpu else "cpu"
    return engine.load_engine(config.model, config.public_name, config.engine, device, config.threads)


class EngineLoader(Protocol):
    """Loads engines and gives their memory back. What loads or unloads is called by one thread at a time."""

    def require(self, artifact: str) -> None:
        """Raise UserError where an artifact is not to be had here; one of an address is fetched meanwhile."""

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

    def require(self, artifact: str) -> None:
        """Find, and where needed fetch, an artifact, a checkpoint or an export."""
        if is_ctranslate2(artifact):
            read_export(Path(artifact).expanduser())
            return
        folder = fetched(artifact)
        if is_artifact(folder) and (card := read_card(folder)).weights == "adapter":
            find_base(folder, card, artifact)
        else:
            find_checkpoint(str(folder) if folder.is_dir() else artifact)

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


MakeLoader = Callable[[ServeConfig], EngineLoader]
"""Makes the loader of a replica, in its process."""


def _trim() -> None:
    """Give what was freed back to the system: glibc keeps most of it (CTranslate2's weights: all of 80 MB)."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
