"""Middleware around every request: an id for it, a line in the access log, and its part in the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.ingress.limits.auth import NOBODY
from serve.ingress.telemetry.access_log import AccessLog, AccessLogEntry, request_id
from serve.ingress.telemetry.metrics import MetricLabels, Metrics

HEADER = "x-request-id"
UNKNOWN = "none"  # the model of a request that was refused before that was read
LEFT = 499  # as nginx says of a client that left before there was an answer

# Asked every few seconds by machines: a log of these would bury everything else.
UNSEEN = frozenset({"/healthz", "/readyz", "/metrics"})


@dataclass
class RequestContext:
    """Facts about a request, collected while it is answered: ``request_context(request.scope)``."""

    request_id: str
    model: str | None = None
    version: str | None = None
    key: str | None = None
    audio_s: float | None = None
    warnings: tuple[str, ...] | None = None
    words: str | None = None


@dataclass(frozen=True)
class TelemetrySinks:
    """Sinks that answered requests are recorded in."""

    log: AccessLog
    metrics: Metrics


def request_context(scope: Scope) -> RequestContext:
    """Return the facts of a request, to be read and filled in."""
    found: RequestContext = scope["state"]["facts"]
    return found


class Observer:
    """ASGI middleware around all of the endpoint. ``sinks`` is called with each request, once there is an endpoint."""

    def __init__(self, app: ASGIApp, sinks: Callable[[], TelemetrySinks]) -> None:
        self._app = app
        self._sinks = sinks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and record it when its last byte has gone or the client has left."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(HEADER)
        known = RequestContext(request_id(asked))
        scope.setdefault("state", {})["facts"] = known
        status: int | None = None

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if asked is None:  # else Serve's proxy, which gives every request an id, says it once more
                    MutableHeaders(scope=message)[HEADER] = known.request_id
            await send(message)

        begun = time.monotonic()
        try:
            await self._app(scope, receive, sent)
        finally:
            self._write(scope, known, status or LEFT, time.monotonic() - begun)

    def _write(self, scope: Scope, known: RequestContext, status: int, seconds: float) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in UNSEEN or path.startswith("/metrics/"):
            return
        sinks = self._sinks()
        sinks.log.write(
            AccessLogEntry(method=scope["method"], path=path, status=status, seconds=seconds, **vars(known))
        )
        if path.startswith("/v1/audio/"):
            labels = MetricLabels(known.model or UNKNOWN, known.version or UNKNOWN, known.key or NOBODY)
            sinks.metrics.answered(labels, status, seconds, known.audio_s or 0.0)
