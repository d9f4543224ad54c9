"""Sends a request's windows to replicas, with retry where a replica dies; counts them when they come back."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import dataclass, field

import ray.exceptions
import ray.serve.exceptions

from asr.inference.model_info import ModelInfo
from asr.transcript import DecodingRequest, Transcript
from serve.ingress.limits.admission import Ticket
from serve.ingress.replica_channel import NodeGone, ReplicaChannel
from serve.ingress.telemetry.metrics import MetricLabels, Metrics
from serve.models.version import Version
from serve.replica.window_result import WindowResult

# A window whose replica died goes to another. Not for ever: it may be the one that they die of.
ATTEMPTS = 4
PAUSE_S = 0.25

_LOST = (ray.exceptions.RayActorError, ray.serve.exceptions.ReplicaUnavailableError, NodeGone)


@dataclass
class ReplicaClient:
    """A request that sends windows: to which version, whose it is, its ticket, and by when it must be answered.

    ``request`` is its id, which a client may have chosen and used before; ``deadline`` is a moment of
    ``time.monotonic``.
    """

    channel: ReplicaChannel
    version: Version
    model: ModelInfo
    request: str
    labels: MetricLabels
    ticket: Ticket
    metrics: Metrics
    deadline: float
    _turns: str = field(default="", init=False)
    _positions: itertools.count[int] = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        self._turns = f"{self.request}/{uuid.uuid4().hex}"  # what its windows share their turns by in a replica

    async def send(self, clip: DecodingRequest) -> Transcript:
        """Have a replica transcribe the next window of this request, and withdraw it where we are cancelled.

        Raises TimeoutError after the deadline, what the replica raised, or RayActorError where several died of it.
        """
        position = next(self._positions)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                result = await self._ask(clip, position, again=attempt > 1)
            except _LOST:
                if attempt == ATTEMPTS:
                    raise
                self.metrics.sent_again(self.labels)
                await asyncio.sleep(PAUSE_S * 2 ** (attempt - 1))
            else:
                self.ticket.done(self.model.encoder_s(clip))
                self.metrics.window_done(self.labels, clip, result)
                return result.transcript
        raise AssertionError("unreachable")

    async def _ask(self, clip: DecodingRequest, position: int, again: bool) -> WindowResult:
        within_s = self.deadline - time.monotonic()
        key = self.labels.key
        return await self.channel.transcribe(clip, self._turns, position, within_s, self.version, key, again=again)
