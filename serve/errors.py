"""Errors in the shape of OpenAI's API: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging

import ray.exceptions
import ray.serve.exceptions
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from asr.errors import DataError, UserError
from asr.printable import printable

logger = logging.getLogger("ray.serve")

MAX_MESSAGE_LENGTH = 1000
RETRY_AFTER_S = 2.0  # where nobody knows better
_PARAMS = {"no_track": "track", "no_channel": "channel", "too_many_channels": "channel"}
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_UNAVAILABLE = (
    ray.exceptions.RayActorError,
    ray.serve.exceptions.DeploymentUnavailableError,
    ray.serve.exceptions.ReplicaUnavailableError,
)


class ApiError(Exception):
    """An answer other than 200: HTTP ``status``, ``message`` for people, ``code`` for programs, ``param`` at fault.

    ``retry_after_s`` tells when to come again where that is known; 429 and 503 always tell something.
    """

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(status, message, code, param, retry_after_s)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = RETRY_AFTER_S if retry_after_s is None and status in (429, 503) else retry_after_s


def body(fault: ApiError) -> dict[str, object]:
    """Return what tells a client of ``fault``, in an answer of its own or as an event of a stream."""
    kind = _TYPES.get(fault.status, "invalid_request_error" if fault.status < 500 else "server_error")
    # Whatever of it a client or a file has written: what one function forgets to cut, this one does not.
    message = printable("; ".join(fault.message.splitlines()), MAX_MESSAGE_LENGTH)
    param = None if fault.param is None else printable(fault.param)
    return {"error": {"message": message, "type": kind, "param": param, "code": fault.code}}


def as_api_error(error: Exception) -> ApiError:
    """Translate an exception: who must act decides the status."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause  # the replica's own exception
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UserError):
        return ApiError(400, str(error), "invalid_value")
    if isinstance(error, DataError):
        status, param = 413 if error.reason == "too_large" else 400, _PARAMS.get(error.reason, "file")
        return ApiError(status, str(error), error.reason, param)
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
