"""The middleware around a real FastAPI application."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from ray.serve._private.http_util import RequestIdMiddleware
from starlette.testclient import TestClient

from serve.errors import ApiError
from serve.ingress.error_middleware import install
from serve.ingress.limits.admission import Admission
from serve.ingress.telemetry.access_log import AccessLog
from serve.ingress.telemetry.metrics import Metrics
from serve.ingress.telemetry.middleware import Observer, TelemetrySinks, request_context
from tests.serve.ingress.telemetry.test_metrics import text

PATH = "/v1/audio/transcriptions"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "access.jsonl"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("tiny", Admission(10, 1e6), 240.0)


@pytest.fixture
def client(file: Path, metrics: Metrics) -> Iterator[TestClient]:
    app = FastAPI()
    install(app)
    sinks = TelemetrySinks(AccessLog(str(file)), metrics)
    app.add_middleware(Observer, sinks=lambda: sinks)

    @app.post(PATH)
    async def transcriptions(request: Request) -> dict[str, str]:
        known = request_context(request.scope)
        known.model, known.version, known.key = "tiny", "stable", "anna"
        known.audio_s, known.words = 12.5, "a secret"
        return {"id": known.request_id}

    @app.post("/v1/audio/full")
    async def full() -> None:
        raise ApiError(429, "full", "queue_full", retry_after_s=7.0)

    @app.post("/v1/audio/broken")
    async def broken() -> None:
        raise RuntimeError("a secret of the house")

    @app.get("/v1/audio/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {}

    with TestClient(app) as client:
        yield client


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_request_has_an_id_a_line_and_its_part_in_the_metrics(
    client: TestClient, file: Path, metrics: Metrics
) -> None:
    response = client.post(PATH)
    (line,) = lines(file)
    assert response.headers["x-request-id"] == response.json()["id"] == line["request_id"]
    assert (line["status"], line["model"], line["key"], line["audio_s"]) == (200, "tiny", "anna", 12.5)
    assert 0.0 <= line["seconds"] < 10.0
    assert "secret" not in file.read_text()
    assert 'requests_total{ingress="one",key="anna",model="tiny",status="200",version="stable"} 1.0' in text(metrics)


@pytest.mark.parametrize("asked", ["mine-1", "a b", None])
def test_behind_serves_proxy_there_is_one_id_and_it_is_the_one_in_the_log(
    client: TestClient, file: Path, asked: str | None
) -> None:
    behind = TestClient(RequestIdMiddleware(client.app))
    response = behind.post(PATH, headers={} if asked is None else {"X-Request-ID": asked})
    assert response.headers.get_list("x-request-id") == [lines(file)[0]["request_id"]]
    assert asked in (None, response.headers["x-request-id"])


@pytest.mark.parametrize(("path", "status"), [("/v1/audio/full", 429), ("/v1/nothing", 404), ("/v1/audio/broken", 500)])
def test_what_is_refused_or_fails_is_written_down_too(client: TestClient, file: Path, path: str, status: int) -> None:
    response = client.post(path)
    assert (response.status_code, set(response.json())) == (status, {"error"})
    assert "secret" not in response.text
    (line,) = lines(file)
    assert (line["status"], line["request_id"]) == (status, response.headers["x-request-id"])


def test_a_stream_is_written_down_when_it_ends(client: TestClient, file: Path) -> None:
    assert client.get("/v1/audio/stream").text == "ab"
    assert len(lines(file)) == 1


def test_probes_leave_no_trace(client: TestClient, file: Path) -> None:
    assert client.get("/healthz").status_code == 200
    assert lines(file) == []
