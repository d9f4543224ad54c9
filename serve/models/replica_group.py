"""Group of an endpoint's replicas: calls one of them, or every one that is alive."""

from __future__ import annotations

import asyncio
from typing import cast

import ray.exceptions
import ray.serve.exceptions
from ray.serve.handle import DeploymentHandle

from asr.inference.model_info import ModelInfo
from asr.transcript import DecodingRequest, Transcript
from serve.models.version import ArtifactInfo, Described, Held, Version

LOAD_TIMEOUT_S = 900.0
LIST_TIMEOUT_S = 10.0

_GONE = (
    ray.exceptions.RayActorError,
    ray.serve.exceptions.DeploymentUnavailableError,
    ray.serve.exceptions.ReplicaUnavailableError,
)


class ReplicaGroup:
    """The replicas behind a handle. Nothing depends on a broadcast: a replica that misses one loads on demand."""

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._replicas = replicas
        self._described: dict[Version, Described] = {}

    async def describe(self, version: Version) -> Described:
        """Return what must be known of a version, from the first time on without asking. Raises what loading raises."""
        known = self._described.get(version)
        if known is None:
            known = await self._replicas.describe.remote(version)
            self._described[known.version] = known
        return known

    def known(self, version: Version) -> ModelInfo | None:
        """Return what was told of a version before; None where nobody has asked."""
        return next((one.info for held, one in self._described.items() if version.is_met_by(held)), None)

    async def answers(self, version: Version) -> None:
        """Return when a replica has answered that holds a version."""
        await self._replicas.describe.remote(version)

    async def inspect(self, artifact: str) -> ArtifactInfo:
        """Have a replica verify an artifact. Raises UserError."""
        found: ArtifactInfo = await self._replicas.inspect.remote(artifact)
        return found

    async def load(self, version: Version) -> list[Described]:
        """Have every replica load a version and decode with it once. Raises what the first of them raised."""
        loaded = await self._everywhere("load", LOAD_TIMEOUT_S, version)
        for error in loaded:
            if isinstance(error, Exception):
                raise error  # the others keep it until it is dropped or has to make room
        described = cast("list[Described]", loaded)
        for one in described:
            self._described[one.version] = one
        return described

    async def drop(self, version: Version) -> None:
        """Have every replica unload a version once nobody uses it there."""
        self._described.pop(version, None)
        await self._everywhere("drop", LOAD_TIMEOUT_S, version)

    async def held(self) -> list[Held]:
        """Return what each replica holds that answers soon."""
        held = await self._everywhere("held", LIST_TIMEOUT_S)
        return [one for one in held if isinstance(one, Held)]

    async def transcribe(
        self, clip: DecodingRequest, turns: str, position: int, within_s: float, version: Version
    ) -> Transcript:
        """Have one of them transcribe a clip."""
        result = await self._replicas.transcribe.remote(clip, turns, position, within_s, version)
        transcript: Transcript = result.transcript
        return transcript

    async def _everywhere(self, method: str, timeout_s: float, *words: object) -> list[object]:
        """Call a method of each replica; of those that died nothing comes back."""
        try:
            asked = self._replicas.broadcast(method, *words)
            found = await asked.results_async(timeout_s=timeout_s, return_exceptions=True)
        except ray.serve.exceptions.DeploymentUnavailableError:
            return []
        for error in found:
            if isinstance(error, asyncio.CancelledError):
                raise error
        return [_own(one) for one in found if not isinstance(one, _GONE)]


def _own(found: object) -> object:
    """Return a replica's own exception rather than Ray's around it."""
    return found.cause if isinstance(found, ray.exceptions.RayTaskError) else found
