from __future__ import annotations

import asyncio
import json
import pickle

import pytest
from fastapi import Request
from ray.exceptions import RayTaskError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from asr.errors import DataError, UserError
from serve.errors import ApiError, answer, as_api_error

REQUEST = Request({"type": "http"})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApiError(429, "full", "queue_full"), 429, "queue_full"),
        (UserError("no", "hint"), 400, "invalid_value"),
        (DataError("not_audio", "bytes"), 400, "not_audio"),
        (DataError("too_long"), 400, "too_long"),
        (DataError("too_large"), 413, "too_large"),
        (HTTPException(404), 404, "http_error"),
        (ClientDisconnect(), 400, "upload_incomplete"),
        (TimeoutError(), 504, "timeout"),
        (ValueError("a secret"), 500, "internal_error"),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, Exception) else str(value),
)
def test_who_must_act_decides_the_status(error: Exception, status: int, code: str) -> None:
    fault = as_api_error(error)
    assert (fault.status, fault.code) == (status, code)


def test_an_error_crosses_processes_whole() -> None:
    error = pickle.loads(pickle.dumps(ApiError(429, "full", "queue_full", "file", 7.2)))
    assert vars(error) == vars(ApiError(429, "full", "queue_full", "file", 7.2))


def test_an_error_of_a_replica_is_unwrapped() -> None:
    remote = RayTaskError("transcribe", "a long traceback", UserError("unknown language"))
    fault = as_api_error(remote.as_instanceof_cause())
    assert (fault.status, fault.message) == (400, "unknown language")


def test_the_body_has_openais_shape_and_no_traceback() -> None:
    response = asyncio.run(answer(REQUEST, ValueError("a secret")))
    body = json.loads(bytes(response.body))
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "server_error"
    assert "secret" not in str(body)


def test_who_should_come_again_is_told_when() -> None:
    known = ApiError(429, "full", "queue_full", retry_after_s=7.2)
    assert asyncio.run(answer(REQUEST, known)).headers["retry-after"] == "8"
    assert asyncio.run(answer(REQUEST, ApiError(429, "full", "queue_full"))).headers["retry-after"] == "2"
    assert asyncio.run(answer(REQUEST, ApiError(503, "gone", "gone"))).headers["retry-after"] == "2"
    assert "retry-after" not in asyncio.run(answer(REQUEST, ApiError(400, "no", "invalid_value"))).headers
