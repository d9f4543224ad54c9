"""Channel of an ingress to the replicas: by gRPC, which costs a third less of its core; by Ray what is sent again.

gRPC says when a replica's process dies. When its whole node vanishes, nothing comes back: Ray, which asks its nodes all
the time, is the one that knows. So what waits is given up once a node has gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

import ray
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from asr.errors import one_line
from serve.replica.window_result import WindowResult

logger = logging.getLogger("ray.serve")

LOOK_S = 2.0  # how often Ray is asked which nodes there are
SETTLED_S = 15.0  # for which Serve may still send to replicas of a node that has gone: it hears of it later than we do

Nodes = Callable[[], Awaitable[set[str]]]
"""Returns the ids of the nodes that Ray takes for alive."""


class NodeGone(Exception):
    """A node has gone while a window waited: whether for a replica of that node is not known."""


class ReplicaChannel:
    """Sends windows to replicas. ``nodes`` tells which nodes there are; without, Ray is asked."""

    def __init__(self, transcriber: DeploymentHandle, nodes: Nodes | None = None) -> None:
        self._by_ray = transcriber
        self._by_grpc = transcriber.options(_by_reference=False)
        self._nodes = nodes or living_nodes
        self._gone_at = -math.inf
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to watch the nodes, in the event loop that calls this."""
        self._watching = asyncio.create_task(self._watch())

    def close(self) -> None:
        """Stop to watch."""
        if self._watching is not None:
            self._watching.cancel()

    async def transcribe(self, *window: object, again: bool = False) -> WindowResult:
        """Have a replica transcribe a window: the words of ``Transcriber.transcribe``. Cancelled, it is withdrawn.

        ``again``: it was lost before. Raises what the replica raised, RayActorError where it died, and NodeGone.
        """
        response = (self._by_ray if again else self._by_grpc).transcribe.remote(*window)
        try:
            return await (_of(response) if again else self._watched(response))
        except (asyncio.CancelledError, NodeGone):
            response.cancel()
            raise

    async def _watched(self, response: DeploymentResponse[WindowResult]) -> WindowResult:
        sent_at = time.monotonic()
        answer = asyncio.create_task(_of(response))
        try:
            while not (await asyncio.wait({answer}, timeout=LOOK_S))[0]:
                if self._gone_at > sent_at - SETTLED_S:
                    raise NodeGone
            return answer.result()
        finally:
            answer.cancel()

    async def _watch(self) -> None:
        known: set[str] = set()
        while True:
            try:
                now = await self._nodes()
            except Exception as error:  # Ray's head is away, and comes back
                logger.warning("Ray does not say which nodes there are: %s", one_line(error))
            else:
                if known - now:
                    logger.warning("%d nodes have gone: what waits for replicas is sent again", len(known - now))
                    self._gone_at = time.monotonic()
                known = now
            await asyncio.sleep(LOOK_S)


async def living_nodes() -> set[str]:
    """Return the ids of the nodes that Ray takes for alive."""
    nodes = await asyncio.get_running_loop().run_in_executor(None, ray.nodes)
    return {node["NodeID"] for node in nodes if node["Alive"]}


async def no_nodes() -> set[str]:
    """Return none, without Ray."""
    return set()


async def _of(response: DeploymentResponse[WindowResult]) -> WindowResult:
    result: WindowResult = await response
    return result
