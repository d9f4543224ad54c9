"""Channel of an ingress to the replicas: by gRPC, which costs both less of their cores; by Ray what is sent again.

gRPC says when a replica's process dies. When its whole node vanishes, nothing comes back: Ray, which asks its nodes all
the time, is the one that knows. So what waits is given up once a node with replicas has gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable

import ray
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from asr.errors import one_line
from serve.replica.window_result import WindowResult

logger = logging.getLogger("ray.serve")

LOOK_S = 2.0  # how often Ray is asked which nodes there are
TOLD_S = 60.0  # a node has no replicas once nobody has told of one for so long: they are counted every ten seconds
SETTLED_S = 15.0  # for which Serve may still send to replicas of a node that has gone: it hears of it later than we do

Nodes = Callable[[], Awaitable[set[str]]]
"""Returns the ids of the nodes that Ray takes for alive."""


class NodeGone(Exception):
    """A node has gone while a window waited: whether for a replica of that node is not known."""


class ReplicaChannel:
    """Sends windows to replicas. ``holding`` tells which nodes have some, ``nodes`` which nodes live."""

    def __init__(self, transcriber: DeploymentHandle, holding: Callable[[], Iterable[str]], nodes: Nodes) -> None:
        self._by_ray = transcriber
        # A stream of one: of a plain call Serve hears how long the queue was only with the answer, when it is no more.
        self._by_grpc = transcriber.options(_by_reference=False, stream=True)
        self._holding = holding
        self._nodes = nodes
        self._told: dict[str, float] = {}  # nodes, and when there was last word of a replica there; at first: of them
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
        if again:
            response = self._by_ray.transcribe.remote(*window)
            coming = _of(response)
        else:
            response = self._by_grpc.transcribed.remote(*window)
            coming = self._watched(response)
        try:
            return await coming
        except (asyncio.CancelledError, NodeGone):
            response.cancel()
            raise

    async def _watched(self, response: DeploymentResponseGenerator[WindowResult]) -> WindowResult:
        sent_at = time.monotonic()
        answer = asyncio.create_task(_only(response))
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
                self._notice(now, known - now)
                known = now
            await asyncio.sleep(LOOK_S)

    def _notice(self, living: set[str], gone: set[str]) -> None:
        at = time.monotonic()
        holding = set(self._holding())
        self._told = {node: at if node in holding else self._told.get(node, at) for node in living | gone}
        lost = [node for node in gone if self._told.pop(node) > at - TOLD_S]
        if lost:
            logger.warning("%d nodes with replicas have gone: what waits is sent again", len(lost))
            self._gone_at = at


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


async def _only(response: DeploymentResponseGenerator[WindowResult]) -> WindowResult:
    found: list[WindowResult] = [result async for result in response]  # to its end, at which Serve counts it as done
    return found[0]
