"""Controller of an endpoint's model names: the catalog and its registry, canary shares, roll-outs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from ray.serve.handle import DeploymentHandle

from asr.audio.limits import AudioLimits
from asr.inference.engine import ModelInfo
from asr.inference.known_model import KnownModel, known_model
from asr.models.checkpoint import builtin_names
from serve.config import ServeConfig
from serve.models.catalog import opened
from serve.models.replica_group import ReplicaGroup
from serve.models.rollout import Rollout, RolloutRequest, Steps
from serve.models.router import Router, Usage
from serve.models.version import Held, Role, Version


@dataclass(frozen=True)
class VersionState:
    """A version of a name: its role or ``previous``, its share of requests, and its usage."""

    name: str
    state: Role | str
    share: float
    version: Version
    usage: Usage


class ModelController:
    """Decides which version answers a name, and changes that. There is one for an endpoint.

    It lives in the endpoint's one ingress, whose requests ask ``router``. ``threads`` do what is slow about a change.
    """

    def __init__(self, config: ServeConfig, replicas: DeploymentHandle, threads: Executor) -> None:
        self._replicas = ReplicaGroup(replicas)
        self._known: dict[Version, KnownModel | None] = {}
        self.router = Router(opened(config), self._replicas, config.registry)
        whole = AudioLimits(max_bytes=config.max_upload_bytes, max_audio_s=config.max_audio_s)  # what is compared is
        self._rollout = Rollout(self.router, self._replicas, threads, whole)

    @property
    def names(self) -> Sequence[str]:
        """The public names, in their order."""
        return list(self.router.catalog.entries)

    def name(self, asked: str) -> str:
        """Return the public name of what a client calls a model. Raises ApiError 404 where there is none."""
        return self.router.catalog.name(asked)

    async def facts(self, name: str) -> ModelInfo | KnownModel | None:
        """Return what a name's model can do, without loading it; None where that is not known without fetching it."""
        version = self.router.catalog.entries[name].stable
        if loaded := self._replicas.known(version):
            return loaded
        if version not in self._known:
            files = asyncio.get_running_loop().run_in_executor(None, _facts, version.artifact)
            self._known[version] = await files
        return self._known[version]

    async def default_info(self) -> ModelInfo:
        """Return what must be known of the default model, under its public name. Raises what loading it raises."""
        catalog = self.router.catalog
        described = await self.router.pin(catalog.entries[catalog.default].stable)
        return replace(described.info, name=catalog.default)

    async def default_answers(self) -> None:
        """Return once a replica answers that holds the default model. Raises what Ray raises where none does."""
        catalog = self.router.catalog
        await self._replicas.answers(catalog.entries[catalog.default].stable)

    async def held(self) -> list[Held]:
        """Return what each replica holds."""
        return await self._replicas.held()

    def states(self) -> list[VersionState]:
        """Return all versions of all names."""
        return [
            VersionState(name, state, share, version, self.router.usage(version))
            for name, entry in self.router.catalog.entries.items()
            for state, share, version in (
                ("stable", 1.0 - entry.share, entry.stable),
                ("candidate", entry.share, entry.candidate),
                ("previous", 0.0, entry.previous),
            )
            if version is not None
        ]

    def change(self, verb: str, name: str, request: RolloutRequest) -> Steps:
        """Load, promote, roll back or unload a name, step by step; see ``Rollout.alone``."""
        return self._rollout.alone(verb, name, request)


def _facts(artifact: str) -> KnownModel | None:
    """Return what the files of a model on this machine tell; a hub or a bucket is not asked because of a listing."""
    here = artifact in builtin_names() or Path(artifact).expanduser().is_dir()
    return known_model(artifact, artifact) if here else None
