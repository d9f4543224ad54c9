"""Engine pool of one replica: loads and unloads models, each on its own, or as adapters on a shared base."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock

import torch

from asr.errors import UserError
from asr.inference.engine import DTYPES, AdapterEngine, Engine, info_of
from asr.models.artifact import as_told, fetched, find_base, is_artifact, read_card, verified_card
from asr.models.backends import SharedBase
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.export import engine_of_export, read_export
from asr.models.family import NO_ADAPTER, family_named, family_of, load_checkpoint, num_bytes
from serve.config import ServeConfig
from serve.models.artifact_info import fingerprint, inspect, weights_bytes
from serve.models.version import ArtifactInfo, Version
from serve.replica.engine_loader import load_engine


class EnginePool:
    """Engines as the configuration asks for them. Safe to use from several threads: decoding goes on during a load.

    With ``share_bases`` the torch engine holds a base once for all adapters of it, unmerged, and clips of all of
    them can be decoded together. An adapter that PEFT cannot mix is merged into a base of its own nevertheless.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._engines: list[Engine] = []
        self._bases: dict[str, SharedBase] = {}  # by the digest of its weights
        self._lock = RLock()

    @property
    def nbytes(self) -> int:
        """Bytes of all weights that are held, those of a shared base once."""
        # Without the lock, which a load keeps for seconds: the lists are taken as they are.
        bases, engines = list(self._bases.values()), list(self._engines)
        return sum(base.nbytes for base in bases) + sum(
            engine.nbytes for engine in engines if not isinstance(engine, AdapterEngine)
        )

    def require(self, artifact: str) -> None:
        """Find, and where needed fetch, an artifact, a checkpoint or an export. Raises UserError."""
        if engine_of_export(artifact):
            read_export(Path(artifact).expanduser())
            return
        folder = fetched(artifact)
        if is_artifact(folder) and (card := read_card(folder)).weights == "adapter":
            find_base(folder, card, artifact)
        else:
            find_checkpoint(str(folder) if folder.is_dir() else artifact)

    def inspect(self, artifact: str) -> ArtifactInfo:
        """Verify digests and card. Raises UserError."""
        return inspect(artifact)

    def expected_nbytes(self, version: Version) -> int:
        """Return the size of its files in bytes."""
        return weights_bytes(version.artifact, with_base=not self._config.share_bases)

    def load(self, version: Version) -> tuple[Version, Engine]:
        """Load a version; return it with its fingerprint. Raises UserError if its files have changed."""
        found = Version(version.artifact, fingerprint(version.artifact))
        if not version.is_met_by(found):
            raise UserError(
                f"{version.artifact} is not what it was: its fingerprint is {found.fingerprint}, "
                f"not {version.fingerprint}",
                "promote it anew, and keep each version in a folder of its own",
            )
        with self._lock:
            engine = self._load(version.artifact)
            self._engines.append(engine)
        return found, engine

    def unload(self, engine: Engine) -> None:
        """Drop an engine and free its memory. It must not be decoding, and the caller should keep no reference to it.

        A shared base goes with its last engine. Raises ValueError for an engine that is not held here.
        """
        with self._lock:
            held = [one for one in self._engines if one is not engine]
            if len(held) == len(self._engines):
                raise ValueError(f"'{engine.info.name}' is not held here")
            self._engines = held
            if isinstance(engine, AdapterEngine):
                if engine.adapter != NO_ADAPTER:
                    engine.base.remove(engine.adapter)
                self._without_unused_bases()
        del engine
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _trim()

    def _load(self, artifact: str) -> Engine:
        config = self._config.narrowed(artifact)
        if not config.share_bases or engine_of_export(artifact):
            return load_engine(config)
        unmerged = config.model_copy(update={"engine": "torch"})
        return self._on_a_base(unmerged) or load_engine(unmerged)

    def _on_a_base(self, config: ServeConfig) -> AdapterEngine | None:
        """Return the engine of an adapter, or of a base itself; None for a model that must be held on its own."""
        folder = fetched(config.model)
        if not is_artifact(folder):
            checkpoint = find_checkpoint(config.model)
            if not family_of(checkpoint.folder).shares_bases:
                return None
            base = self._base(checkpoint)
            told = info_of(base.model, config.public_name)
            return AdapterEngine(base, NO_ADAPTER, told, num_bytes(base.model.network))
        card = verified_card(folder)
        if card.weights != "adapter" or not family_named(card.family).is_mixable(folder):
            return None
        base = self._base(find_base(folder, card, config.model))
        try:
            adapter = base.add(folder)
        except BaseException:
            self._without_unused_bases()
            raise
        model = replace(as_told(base.model, card), name=config.model)
        return AdapterEngine(base, adapter, info_of(model, config.public_name), base.adapter_nbytes(adapter))

    def _base(self, checkpoint: Checkpoint) -> SharedBase:
        if self._config.threads:
            torch.set_num_threads(self._config.threads)
        device, digest = self._config.device, checkpoint.digest
        if digest not in self._bases:
            model = load_checkpoint(checkpoint, device, DTYPES[device])
            self._bases[digest] = family_of(checkpoint.folder).shared_base(model)
        return self._bases[digest]

    def _without_unused_bases(self) -> None:
        used = {engine.group for engine in self._engines}
        for digest in [digest for digest, base in self._bases.items() if base.group not in used]:
            self._bases.pop(digest).close()


def _trim() -> None:
    """Return freed memory to the system: glibc keeps most of it (CTranslate2's weights: all of 80 MB)."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
