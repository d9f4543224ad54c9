"""Channel of an ingress to the replicas: by gRPC, which costs a third less of its core; by Ray what is sent again.

gRPC says when a replica's process dies. When its node is cut off, nothing comes back: Ray, which asks its nodes all the
time, is the one that knows. So what has waited for a while is given up once a replica has gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress

import ray.exceptions
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from serve.models.living import Alive, living
from serve.replica.window_result import WindowResult

logger = logging.getLogger("ray.serve")

LOOK_S = 2.0  # how often Ray is asked who lives
SETTLED_S = 15.0  # after a replica has gone, Serve may send to it for so long: its controller hears of it later than we


class ReplicaGone(Exception):
    """A replica has gone while a window waited for one: whether it was that one is not known."""


class ReplicaChannel:
    """Sends windows to replicas. ``alive`` tells which there are; without, Ray is asked."""

    def __init__(self, transcriber: DeploymentHandle, alive: Alive | None = None) -> None:
        self._by_ray = transcriber
        self._by_grpc = transcriber.options(_by_reference=False)
        self._alive = alive or living(transcriber.app_name, transcriber.deployment_name)
        self._gone_at = -math.inf
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to watch the replicas, in the event loop that calls this."""
        self._watching = asyncio.create_task(self._watch())

    def close(self) -> None:
        """Stop to watch."""
        if self._watching is not None:
            self._watching.cancel()

    async def transcribe(self, *window: object, again: bool = False) -> WindowResult:
        """Have a replica transcribe a window: the words of ``Transcriber.transcribe``. Cancelled, it is withdrawn.

        ``again``: one was lost that had it before. Raises what the replica raised, RayActorError where it died, and
        ReplicaGone.
        """
        response = (self._by_ray if again else self._by_grpc).transcribe.remote(*window)
        try:
            return await (_of(response) if again else self._watched(response))
        except (asyncio.CancelledError, ReplicaGone):
            response.cancel()
            raise

    async def _watched(self, response: DeploymentResponse[WindowResult]) -> WindowResult:
        sent_at = time.monotonic()
        answer = asyncio.create_task(_of(response))
        try:
            while not (await asyncio.wait({answer}, timeout=LOOK_S))[0]:
                if self._gone_at > sent_at - SETTLED_S:
                    raise ReplicaGone
            return answer.result()
        finally:
            answer.cancel()

    async def _watch(self) -> None:
        known: set[str] = set()
        while True:
            with suppress(ray.exceptions.RayError, OSError):  # Ray's own head is away: it is asked again
                now = await self._alive()
                if known - now:
                    logger.info("%d replicas have gone", len(known - now))
                    self._gone_at = time.monotonic()
                known = now
            await asyncio.sleep(LOOK_S)


async def _of(response: DeploymentResponse[WindowResult]) -> WindowResult:
    result: WindowResult = await response
    return result
