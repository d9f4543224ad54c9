from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from serve.ingress.error_middleware import install
from serve.ingress.limits.admission import Admission
from serve.ingress.limits.auth import read_keys
from serve.ingress.telemetry.metrics import MetricLabels, Metrics
from serve.ingress.telemetry.scrapes import KEPT_S, Peers, Scrapes

KEY, OTHER = "a key for the figures", "a key for the words"


def ingress(requests: int) -> Metrics:
    metrics = Metrics("tiny", Admission(10, 1e6), 240.0)
    for _ in range(requests):
        metrics.answered(MetricLabels("tiny", "stable", "anna"), 200, 1.0, 2.0)
    return metrics


class Others:
    """A handle of the deployment: one ingress answers, one has died."""

    def broadcast(self, method: str) -> SimpleNamespace:
        async def results_async(**_: Any) -> list[Any]:
            return [("two", ingress(5).families()), RuntimeError("it died")]

        return SimpleNamespace(results_async=results_async)


def test_one_ingress_that_was_late_made_all_others_vanish() -> None:
    class Late(Others):
        is_late = False

        def broadcast(self, method: str) -> SimpleNamespace:
            if not self.is_late:
                return super().broadcast(method)

            async def results_async(**_: Any) -> list[Any]:
                raise TimeoutError

            return SimpleNamespace(results_async=results_async)

    now = [0.0]
    handle: Any = Late()
    peers = Peers("one", ingress(3).families, handle, lambda: now[0])
    assert set(asyncio.run(peers.families())) == {"one", "two"}
    handle.is_late = True
    assert set(asyncio.run(peers.families())) == {"one", "two"}, "as it was told last"
    now[0] += KEPT_S
    assert set(asyncio.run(peers.families())) == {"one"}


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    (tmp_path / "keys.yaml").write_text(f"- {{name: eye, key: {KEY}, metrics: true}}\n- {{name: user, key: {OTHER}}}\n")
    handle: Any = Others()
    scrapes = Scrapes(read_keys(str(tmp_path / "keys.yaml")), Peers("one", ingress(3).families, handle))
    app = FastAPI()
    install(app)

    @app.get("/metrics")
    async def everything(request: Request) -> Response:
        return await scrapes.all(request)

    @app.get("/metrics/targets")
    async def targets(request: Request) -> Response:
        return await scrapes.targets(request)

    @app.get("/metrics/ingress/{name}")
    async def one(request: Request, name: str) -> Response:
        return await scrapes.one(request, name)

    return TestClient(app, base_url="http://endpoint:8000", headers={"Authorization": f"Bearer {KEY}"})


def counted(text: str) -> dict[str, float]:
    """The requests that were counted, by ingress."""
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {one.labels["ingress"]: one.value for one in samples if one.name == "whisperfleet_requests_total"}


def test_whichever_ingress_is_scraped_tells_of_all_of_them(client: TestClient) -> None:
    assert counted(client.get("/metrics").text) == {"one": 3.0, "two": 5.0}
    assert counted(client.get("/metrics/ingress/two").text) == {"two": 5.0}
    assert client.get("/metrics/ingress/three").status_code == 404


def test_prometheus_finds_each_ingress_as_a_target(client: TestClient) -> None:
    found = client.get("/metrics/targets").json()
    assert found == [
        {"targets": ["endpoint:8000"], "labels": {"__metrics_path__": f"/metrics/ingress/{name}", "instance": name}}
        for name in ("one", "two")
    ]
    assert [list(counted(client.get(one["labels"]["__metrics_path__"]).text)) for one in found] == [["one"], ["two"]]


@pytest.mark.parametrize("path", ["/metrics", "/metrics/targets", "/metrics/ingress/one"])
def test_only_a_key_that_may_read_figures_gets_any(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Authorization": f"Bearer {OTHER}"}).status_code == 403
    assert client.get(path, headers={"Authorization": ""}).status_code == 401


def test_an_ingress_that_cannot_ask_the_others_tells_of_itself() -> None:
    class Late:
        def broadcast(self, method: str) -> SimpleNamespace:
            async def results_async(**_: Any) -> list[Any]:
                raise TimeoutError

            return SimpleNamespace(results_async=results_async)

    for handle in (None, Late()):
        peers = Peers("one", ingress(1).families, handle)  # type: ignore[arg-type]
        assert list(asyncio.run(peers.families())) == ["one"]
