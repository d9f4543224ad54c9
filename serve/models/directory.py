"""Directory of an endpoint's models: their names, and what each of them can do, for an ingress."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asr.inference.known_model import KnownModel, known_model
from asr.inference.model_info import ModelInfo
from asr.models.checkpoint import builtin_names
from serve.models.replica_group import ReplicaGroup
from serve.models.router import Router
from serve.models.version import Version


class ModelDirectory:
    """The models that ``router`` knows by name, and the replicas that hold them."""

    def __init__(self, router: Router, replicas: ReplicaGroup) -> None:
        self._router = router
        self._replicas = replicas
        self._known: dict[Version, KnownModel | None] = {}

    @property
    def names(self) -> Sequence[str]:
        """The public names, in their order."""
        return list(self._router.catalog.entries)

    def name(self, asked: str) -> str:
        """Return the public name of what a client calls a model. Raises ApiError 404 where there is none."""
        return self._router.catalog.name(asked)

    async def facts(self, name: str) -> ModelInfo | KnownModel | None:
        """Return what a name's model can do, without loading it; None where that is not known without fetching it."""
        version = self._router.catalog.entries[name].stable
        if loaded := self._replicas.known(version):
            return loaded
        if version not in self._known:
            files = asyncio.get_running_loop().run_in_executor(None, _facts, version.artifact)
            self._known[version] = await files
        return self._known[version]

    async def default_info(self) -> ModelInfo:
        """Return what must be known of the default model, under its public name. Raises what loading it raises."""
        catalog = self._router.catalog
        described = await self._router.pin(catalog.entries[catalog.default].stable)
        return replace(described.info, name=catalog.default)

    async def default_answers(self) -> None:
        """Return once a replica answers that holds the default model. Raises what Ray raises where none does."""
        catalog = self._router.catalog
        await self._replicas.answers(catalog.entries[catalog.default].stable)


def _facts(artifact: str) -> KnownModel | None:
    """Return what the files of a model on this machine tell; a hub or a bucket is not asked because of a listing."""
    here = artifact in builtin_names() or Path(artifact).expanduser().is_dir()
    return known_model(artifact, artifact) if here else None
