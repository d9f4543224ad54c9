"""The models of one process: each loaded on its own, or adapters on a base that they share; and unloaded again."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from threading import RLock
from typing import Literal

import torch

from asr.inference.engine import DTYPES, AdapterEngine, Engine, choose, info_of, load_engine
from asr.models.artifact import fetched, find_base, is_artifact, verified_card
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import NO_ADAPTER, SharedBase, family_named, family_of, load_checkpoint, num_bytes


@dataclass(frozen=True)
class _Place:
    """Which base an adapter can be on: these weights, on this device."""

    digest: str
    device: str


class EnginePool:
    """Engines by the name of what they load. Safe to use from several threads: what is decoded meanwhile goes on."""

    def __init__(self) -> None:
        self._engines: list[Engine] = []
        self._bases: dict[_Place, SharedBase] = {}
        self._lock = RLock()

    @property
    def nbytes(self) -> int:
        """Bytes of all weights that are held, those of a shared base once."""
        # Without the lock, which whoever loads keeps for seconds: the lists are taken as they are.
        bases, engines = list(self._bases.values()), list(self._engines)
        return sum(base.nbytes for base in bases) + sum(
            engine.nbytes for engine in engines if not isinstance(engine, AdapterEngine)
        )

    def load(
        self,
        name: str,
        public_name: str,
        engine: Literal["auto", "torch", "ctranslate2"] = "auto",
        device: str = "cpu",
        threads: int = 0,
        share_bases: bool = False,
    ) -> Engine:
        """Load whatever ``name`` names, as ``asr.inference.engine.load_engine`` does and raising what it raises.

        With ``share_bases`` the torch engine holds a base once for all adapters of it, unmerged, and clips of all of
        them can be decoded together. An adapter that PEFT cannot mix is merged into a base of its own nevertheless.
        """
        with self._lock:
            found: Engine | None = None
            if share_bases and (choose(name, device) if engine == "auto" else engine) == "torch":
                found = self._on_a_base(name, public_name, device, threads)
            found = found or load_engine(name, public_name, engine, device, threads)
            self._engines.append(found)
            return found

    def unload(self, engine: Engine) -> None:
        """Forget an engine, of which nothing is being decoded and no reference should be kept, and free its memory.

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

    def _on_a_base(self, name: str, public_name: str, device: str, threads: int) -> AdapterEngine | None:
        """Return the engine of an adapter, or of a base itself; None for what must be held on its own."""
        folder = fetched(name)
        if not is_artifact(folder):
            base = self._base(find_checkpoint(name), device, threads)
            return AdapterEngine(base, NO_ADAPTER, info_of(base.model, public_name), num_bytes(base.model.network))
        card = verified_card(folder)
        if card.weights != "adapter" or not family_named(card.family).is_mixable(folder):
            return None
        base = self._base(find_base(folder, card, name), device, threads)
        try:
            adapter = base.add(folder)
        except BaseException:
            self._without_unused_bases()
            raise
        told = replace(base.model, name=name, language=card.language, short_context=card.short_context)
        return AdapterEngine(base, adapter, info_of(told, public_name), base.adapter_nbytes(adapter))

    def _base(self, checkpoint: Checkpoint, device: str, threads: int) -> SharedBase:
        if threads:
            torch.set_num_threads(threads)
        place = _Place(checkpoint.digest, device)
        if place not in self._bases:
            self._bases[place] = family_of(checkpoint.folder).shared_base(
                load_checkpoint(checkpoint, device, DTYPES[device])
            )
        return self._bases[place]

    def _without_unused_bases(self) -> None:
        used = {engine.group for engine in self._engines}
        for place in [place for place, base in self._bases.items() if base.group not in used]:
            self._bases.pop(place).close()
