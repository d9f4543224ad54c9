"""Scrapes of Prometheus: the metrics of all ingresses in one answer, or each as a target of its own.

Whoever scrapes may reach one ingress only, behind HAProxy or another balancer, and not choose which.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import ray.serve.exceptions
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from ray.serve.handle import DeploymentHandle

from asr.printable import printable
from serve.errors import ApiError
from serve.ingress.limits.auth import Keyring
from serve.ingress.telemetry.metrics import CONTENT_TYPE, Families, exposition
from serve.shares.ledger import Clock

ANSWER_S = 3.0  # for all ingresses together: Prometheus waits for ten
KEPT_S = 60.0  # for which one that does not answer is told of as it last was: Serve takes it out by then

Own = Callable[[], Families]


class Peers:
    """All ingresses of the endpoint, asked through ``handle``; without it this one alone, which is called ``name``."""

    def __init__(self, name: str, own: Own, handle: DeploymentHandle | None, clock: Clock = time.monotonic) -> None:
        self._name = name
        self._own = own
        self._handle = handle
        self._clock = clock
        self._last: dict[str, tuple[float, Families]] = {}

    async def families(self) -> dict[str, Families]:
        """Return the metrics of all ingresses, by their names.

        Serve gives no answer at all where one is late: then they are those that were told last.
        """
        if self._handle is not None:
            with suppress(TimeoutError, ray.serve.exceptions.DeploymentUnavailableError):
                asked = self._handle.broadcast("metric_families")
                answers = await asked.results_async(timeout_s=ANSWER_S, return_exceptions=True)
                told = dict(one for one in answers if not isinstance(one, BaseException))
                self._last = {name: (self._clock(), families) for name, families in told.items()}
        since = self._clock() - KEPT_S
        return {name: told for name, (at, told) in self._last.items() if at > since} | {self._name: self._own()}


class Scrapes:
    """Answers ``/metrics`` and what is below it. Raises ApiError 401 or 403 for a key that may not read metrics."""

    def __init__(self, keys: Keyring, peers: Peers) -> None:
        self._keys = keys
        self._peers = peers

    async def all(self, request: Request) -> Response:
        """Return the metrics of all ingresses."""
        self._check(request)
        return Response(exposition(await self._peers.families()), media_type=CONTENT_TYPE)

    async def one(self, request: Request, name: str) -> Response:
        """Return the metrics of one ingress. Raises ApiError 404 where it is not there."""
        self._check(request)
        found = await self._peers.families()
        if name not in found:
            raise ApiError(404, f"there is no ingress '{printable(name)}'", "not_found")
        return Response(exposition({name: found[name]}), media_type=CONTENT_TYPE)

    async def targets(self, request: Request) -> Response:
        """Return each ingress as a target, at the address that was asked."""
        self._check(request)
        path = f"{request.scope.get('root_path', '')}/metrics/ingress"
        return JSONResponse(
            [
                {
                    "targets": [request.url.netloc],
                    "labels": {"__metrics_path__": f"{path}/{name}", "instance": name},
                }
                for name in sorted(await self._peers.families())
            ]
        )

    def _check(self, request: Request) -> None:
        holder = self._keys.holder(request.headers.get("authorization"))
        if holder is not None and not holder.metrics:
            raise ApiError(403, "this API key may not read metrics: it has no metrics: true", "forbidden")
