"""Admin API for models: authorisation, the requested change, and each step of it as a line of JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError

from asr.printable import printable
from serve.config import ServeConfig, is_loopback
from serve.errors import MAX_MESSAGE_LENGTH, ApiError, as_api_error, body
from serve.ingress.controller_link import ControllerLink
from serve.ingress.limits.auth import Keyring
from serve.models.controller import VersionState
from serve.models.rollout import RolloutRequest, RolloutStep, Steps
from serve.models.version import Held

MAX_BODY_BYTES = 64 * 1024
# What a gateway or a browser adds: neither is a person at this machine's own command line.
_FROM_ELSEWHERE = ("origin", "forwarded", "x-forwarded-for", "x-real-ip", "via", "sec-fetch-site")


class AdminApi:
    """Answers ``/admin/models``. Raises ApiError."""

    def __init__(self, config: ServeConfig, keys: Keyring, link: ControllerLink) -> None:
        self._config = config
        self._keys = keys
        self._link = link

    async def listing(self, request: Request) -> Response:
        """Return what each name stands for, and what is loaded where."""
        self._check(request)
        held, states = await asyncio.gather(self._link.held(), self._link.states())
        rows = [_row(one, held) for one in states]
        total = max((one.total for one in held), default=0)
        return JSONResponse(
            {"models": rows, "replicas": len(held), "nbytes": total, "memory_gb": self._config.memory_gb or None}
        )

    async def change(self, request: Request, verb: str, name: str) -> Response:
        """Make a change; the answer begins with its first step, and what fails later is its last line."""
        self._check(request)
        steps = self._link.change(verb, name, await _order(request))
        first = await anext(steps)
        return StreamingResponse(_lines(first, steps), media_type="application/x-ndjson")

    def _check(self, request: Request) -> None:
        """Raise ApiError 401 or 403 unless who asks may change models."""
        holder = self._keys.holder(request.headers.get("authorization"))
        if holder is not None:
            if not holder.admin:
                raise ApiError(403, "this API key may not manage models: it has no admin: true", "forbidden")
            return
        host = request.url.hostname or ""
        there = [name for name in _FROM_ELSEWHERE if name in request.headers]
        if self._config.exposed or not is_loopback(self._config.host) or not is_loopback(host) or there:
            raise ApiError(403, "without API keys models are managed from this machine only", "forbidden")


def _row(one: VersionState, held: list[Held]) -> dict[str, object]:
    sizes = [size for each in held for found, size in each.nbytes.items() if one.version.is_met_by(found)]
    return {
        "name": one.name,
        "state": one.state,
        "share": round(one.share, 6),
        "artifact": one.version.artifact,
        "fingerprint": one.version.fingerprint,
        "loaded": len(sizes),
        "nbytes": max(sizes, default=None),
        "requests": one.usage.requests,
        "in_flight": one.usage.present,
        "last_used": one.usage.last,
    }


async def _order(request: Request) -> RolloutRequest:
    """Read what a change is given. Raises ApiError 415 for what a web page could send unasked, 400, 413."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ApiError(415, "send application/json", "not_json")
    text = b""
    async for part in request.stream():
        text += part
        if len(text) > MAX_BODY_BYTES:
            raise ApiError(413, f"the order is over {MAX_BODY_BYTES:,} bytes", "too_large")
    try:
        return RolloutRequest.model_validate_json(text or b"{}")
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the body"
        raise ApiError(400, f"{where}: {fault['msg']}", "invalid_value", where) from None


async def _lines(first: RolloutStep, steps: Steps) -> AsyncGenerator[str]:
    try:
        yield _line(first)
        async for step in steps:
            yield _line(step)
    except Exception as error:  # the status has gone: the last line says it
        yield json.dumps(body(as_api_error(error))) + "\n"
    finally:
        await steps.aclose()


def _line(step: RolloutStep) -> str:
    # Whatever of it an admin or a card has written: what a step forgets to cut, this does not.
    return json.dumps({"step": step.step, "text": printable(step.text, MAX_MESSAGE_LENGTH)}) + "\n"
