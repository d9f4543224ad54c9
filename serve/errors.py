"""Errors in the shape of OpenAI's API: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging

import ray.exceptions
import ray.serve.exceptions
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from ray.exceptions import RayError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from asr.errors import DataError, UserError

logger = logging.getLogger("ray.serve")

RETRY_AFTER_S = 2
_TYPES = {404: "not_found_error", 429: "rate_limit_error"}
_UNAVAILABLE = (
    ray.exceptions.RayActorError,
    ray.serve.exceptions.DeploymentUnavailableError,
    ray.serve.exceptions.ReplicaUnavailableError,
)


class ApiError(Exception):
    """An answer other than 200: HTTP ``status``, ``message`` for people, ``code`` for programs, ``param`` at fault."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(status, message, code, param)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


def install(app: FastAPI) -> None:
    """Let ``app`` answer every exception in OpenAI's shape."""
    # Exception alone would do, but what it catches Starlette raises once more after the answer, for the server's log.
    for kind in (ApiError, UserError, DataError, HTTPException, ClientDisconnect, TimeoutError, RayError, Exception):
        app.add_exception_handler(kind, answer)


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Return the response to any exception; what is a bug of ours is logged, and its traceback kept to ourselves."""
    fault = as_api_error(error)
    kind = _TYPES.get(fault.status, "invalid_request_error" if fault.status < 500 else "server_error")
    body = {"message": fault.message, "type": kind, "param": fault.param, "code": fault.code}
    headers = {"Retry-After": str(RETRY_AFTER_S)} if fault.status in (429, 503) else None
    return JSONResponse({"error": body}, fault.status, headers)


def as_api_error(error: Exception) -> ApiError:
    """Translate an exception: who must act decides the status."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause  # the replica's own exception
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UserError):
        return ApiError(400, str(error), "invalid_value")
    if isinstance(error, DataError):
        return ApiError(413 if error.reason == "too_large" else 400, str(error), error.reason, "file")
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), "http_error")
    if isinstance(error, ClientDisconnect):
        return ApiError(400, "the upload ended early", "upload_incomplete", "file")
    if isinstance(error, TimeoutError):
        return ApiError(504, "the request took too long", "timeout")
    if isinstance(error, _UNAVAILABLE):
        return ApiError(503, "no replica of the model answers", "model_unavailable")
    logger.error("unexpected error", exc_info=error)
    return ApiError(500, "internal error; it was logged", "internal_error")
