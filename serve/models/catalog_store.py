"""Store of the catalogue: in the registry, which outlives the endpoint, and in Ray, which outlives the controller."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked
from ray.experimental import internal_kv

from serve.config import ServeConfig
from serve.models.catalog import Catalog, CatalogEntry, opened, save


class StateMemory(Protocol):
    """A place for some bytes that outlives the process."""

    def get(self) -> bytes | None:
        """Return what was put last, or None."""

    def put(self, content: bytes) -> None:
        """Keep something in place of what was there."""


class ClusterMemory:
    """The key-value store of the Ray that this process is connected to, under one key."""

    def __init__(self, key: str) -> None:
        self._key = f"whisperfleet:{key}"

    def get(self) -> bytes | None:
        """Return what was put last, or None."""
        content: bytes | None = internal_kv._internal_kv_get(self._key)
        return content

    def put(self, content: bytes) -> None:
        """Keep something in place of what was there."""
        internal_kv._internal_kv_put(self._key, content, overwrite=True)


@checked(frozen=True)
class _Kept:
    """The catalogue of one deployment of the endpoint: another deployment begins with what is configured.

    ``ingresses`` are those that may hold a copy, or shares.
    """

    deployment: str
    revision: int
    models: dict[str, CatalogEntry]
    ingresses: frozenset[str] = frozenset()


_KEPT = TypeAdapter(_Kept)


@dataclass
class CatalogStore:
    """The catalogue of an endpoint, and a number that grows with each change. ``deployment`` tells deployments apart.

    ``is_resumed``: a controller of the same deployment was here before.
    """

    config: ServeConfig
    memory: StateMemory
    deployment: str
    catalog: Catalog = field(init=False)
    revision: int = field(init=False)
    is_resumed: bool = field(default=False, init=False)
    ingresses: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        content = self.memory.get()
        kept = _KEPT.validate_json(content) if content else None
        if kept is None or kept.deployment != self.deployment:
            # Above those of any deployment before, of which an ingress may still report here.
            before = kept.revision if kept else 0
            self.catalog, self.revision = opened(self.config), max(round(1000 * time.time()), before + 1)
            self._remember(self.catalog, self.revision)
        else:
            self.is_resumed = True
            self.catalog, self.revision = Catalog(kept.models, self.config.model), kept.revision
            self.ingresses = kept.ingresses

    def change(self, catalog: Catalog, kept: bool = True) -> None:
        """Put a catalogue in place of the last one. Raises UserError, and changes nothing, if it cannot be kept.

        ``kept``: in the registry too, where the configuration names one.
        """
        if kept:
            save(catalog, self.config.registry)
        self._remember(catalog, self.revision + 1)
        self.catalog, self.revision = catalog, self.revision + 1

    def note(self, joined: str, left: frozenset[str]) -> None:
        """Keep the name of another ingress, without those that have died, for a controller that begins again."""
        self.ingresses = (self.ingresses - left) | {joined}
        self._remember(self.catalog, self.revision)

    def _remember(self, catalog: Catalog, revision: int) -> None:
        self.memory.put(_KEPT.dump_json(_Kept(self.deployment, revision, dict(catalog.entries), self.ingresses)))
