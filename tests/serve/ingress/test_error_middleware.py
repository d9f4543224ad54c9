from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from asr.errors import DataError, UserError
from serve.errors import MAX_MESSAGE_LENGTH, ApiError
from serve.ingress.error_middleware import answer, install


def test_the_body_has_openais_shape_and_no_traceback() -> None:
    response = answer(ValueError("a secret"))
    body = json.loads(bytes(response.body))
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "server_error"
    assert "secret" not in str(body)


def test_who_sends_no_key_is_told_how_to_send_one() -> None:
    refused = answer(ApiError(401, "send an API key", "missing_api_key"))
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in answer(ApiError(404, "no", "no")).headers


@pytest.mark.parametrize(
    ("error", "status"), [(KeyError("a secret"), 500), (DataError("not_audio"), 400), (HTTPException(405), 405)]
)
def test_an_application_answers_all_of_them(error: Exception, status: int) -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    client = TestClient(app)  # which raises what comes out of the application
    response = client.get("/")
    assert (response.status_code, response.json().keys()) == (status, {"error"})
    assert client.get("/nothing").json()["error"]["code"] == "http_error"


def test_what_fails_once_an_answer_has_begun_is_left_to_the_server() -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    async def fail() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "half"
            raise KeyError("a bug")

        return StreamingResponse(body())

    with pytest.raises(KeyError):
        TestClient(app).get("/")


def test_who_should_come_again_is_told_when() -> None:
    known = ApiError(429, "full", "queue_full", retry_after_s=7.2)
    assert answer(known).headers["retry-after"] == "8"
    assert answer(ApiError(429, "full", "queue_full")).headers["retry-after"] == "2"
    assert answer(ApiError(503, "gone", "gone")).headers["retry-after"] == "2"
    assert "retry-after" not in answer(ApiError(400, "no", "invalid_value")).headers


def test_whatever_a_stranger_wrote_is_cut_and_printable_in_an_answer() -> None:
    hostile = "\r\nSet-Cookie: a\x1b[2J\u202e\ud800" + "x" * 1_000_000
    for error in (ApiError(400, hostile, "invalid_value", hostile), UserError(hostile), DataError("corrupt", hostile)):
        response = answer(error)
        told = json.loads(response.body)["error"]
        assert len(response.body) < 3 * MAX_MESSAGE_LENGTH and told["message"].isprintable()
        assert told["param"] is None or told["param"].isprintable()
        assert all(value.isprintable() for value in response.headers.values())
