"""Turns exceptions into answers in the shape of OpenAI's API, around everything else that an ingress does."""

from __future__ import annotations

import json
import math

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import as_api_error, body
from serve.ingress.limits.body_drain import RequestBody


def install(app: FastAPI) -> None:
    """Let ``app`` answer every exception in OpenAI's shape, within the middleware that is added after this."""
    app.add_exception_handler(HTTPException, _raise)  # which FastAPI would answer itself
    app.add_middleware(_Answering)


class _Answering:
    """ASGI middleware: the one place where exceptions become answers.

    Not a handler of Exception: what that catches is raised once more, outside of all middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, upload = False, RequestBody(scope, receive)

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, upload, sent)
        except Exception as error:
            if begun:
                raise
            await upload.drop()
            await (_closing(error) if upload.unwanted else answer(error))(scope, receive, send)


def _closing(error: Exception) -> JSONResponse:
    """Return the response to an exception whose client has more to send: the connection ends with it.

    Our HAProxy would wait for the rest of the body, but for the header (see serve/haproxy_start.py).
    """
    refusal = answer(error)
    refusal.headers["Connection"] = "close"
    refusal.headers["X-Refusal"] = json.dumps(json.loads(bytes(refusal.body)))
    return refusal


async def _raise(request: Request, error: Exception) -> Response:
    raise error


def answer(error: Exception) -> JSONResponse:
    """Return the response to any exception; what is a bug of ours is logged, and its traceback kept to ourselves."""
    fault = as_api_error(error)
    headers = {}
    if fault.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(fault.retry_after_s)))
    return JSONResponse(body(fault), fault.status, headers)
