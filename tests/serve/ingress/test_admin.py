"""Who may change models, and how changes are asked for: the desk behind a real web server's parsing, without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.testclient import TestClient

from asr.errors import UserError
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.ingress.admin import MAX_BODY_BYTES, AdminApi
from serve.ingress.controller_link import ControllerLink
from serve.ingress.error_middleware import install
from serve.ingress.limits.auth import read_keys
from serve.models.rollout import RolloutRequest, RolloutStep, Steps
from serve.models.version import Held, Version
from tests.serve.inside import controlled

ADMIN, OTHER = "a key for the models", "a key for the words"


class Fleet:
    async def held(self) -> list[Held]:
        return [Held({Version("m", "f"): 10}, 12), Held({}, 0)]


class Rollout:
    """Notes what it is asked for; ``fails`` says after how many steps it fails."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, RolloutRequest]] = []
        self.fails = 9
        self.text = ""

    async def alone(self, verb: str, name: str, request: RolloutRequest) -> Steps:
        self.asked.append((verb, name, request))
        for number in range(3):
            if number == self.fails:
                raise UserError("it is damaged", "copy it anew")
            yield RolloutStep("step", self.text or str(number))


def client(rollout: Rollout, called: str = "127.0.0.1", **settings: Any) -> TestClient:
    """A client of an endpoint with these settings, which calls it by a name."""
    config = ServeConfig(model="m", **settings)
    keys = read_keys(config.keys)
    controller: Any = controlled(config, None)
    controller._replica._replicas, controller._replica._rollout = Fleet(), rollout
    admin_api = AdminApi(config, keys, ControllerLink("Api#one", controller, controller))
    app = FastAPI()
    install(app)

    @app.get("/admin/models")
    async def listing(request: Request) -> Response:
        return await admin_api.listing(request)

    @app.post("/admin/models/{verb}/{name:path}")
    async def change(verb: str, name: str, request: Request) -> Response:
        return await admin_api.change(request, verb, name)

    return TestClient(app, base_url=f"http://{called}:8000")


@pytest.fixture
def rollout() -> Rollout:
    return Rollout()


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys.yaml"
    path.write_text(f"- {{name: keeper, key: {ADMIN}, admin: true}}\n- {{name: user, key: {OTHER}}}\n")
    return str(path)


def test_a_step_that_repeats_what_was_sent_is_one_short_line(rollout: Rollout) -> None:
    rollout.text = "reading \x1b[2J" + "x\n" * 5000
    answer = client(rollout).post("/admin/models/load/x", json={"artifact": "a"})
    told = [json.loads(line)["text"] for line in answer.text.splitlines()]
    assert len(told) == 3 and all(len(text) == 1000 and text.isprintable() for text in told)


def test_steps_come_as_lines(rollout: Rollout) -> None:
    answer = client(rollout).post("/admin/models/promote/openai/whisper-small", json={"artifact": "a", "canary": 0.1})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["text"] for line in answer.text.splitlines()] == ["0", "1", "2"]
    assert rollout.asked == [("promote", "openai/whisper-small", RolloutRequest(artifact="a", canary=0.1))]


def test_what_fails_at_once_has_a_status_and_what_fails_later_a_last_line(rollout: Rollout) -> None:
    rollout.fails = 0
    assert client(rollout).post("/admin/models/load/m", json={}).status_code == 400
    rollout.fails = 2
    answer = client(rollout).post("/admin/models/load/m", json={})
    last = json.loads(answer.text.splitlines()[-1])
    assert (answer.status_code, last["error"]["message"]) == (200, "it is damaged (copy it anew)")


def test_the_list_says_what_is_loaded_where(rollout: Rollout) -> None:
    listing = client(rollout, memory_gb=2.5).get("/admin/models").json()
    assert (listing["replicas"], listing["nbytes"], listing["memory_gb"]) == (2, 12, 2.5)
    [row] = listing["models"]
    assert (row["name"], row["state"], row["share"], row["loaded"], row["nbytes"]) == ("m", "stable", 1.0, 1, 10)


def test_with_keys_it_takes_one_that_may(rollout: Rollout, keys: str) -> None:
    asked = client(rollout, "speech.example.org", keys=keys, host="0.0.0.0")
    for key, status in ((ADMIN, 200), (OTHER, 403), ("guessed", 401)):
        heads = {"Authorization": f"Bearer {key}"}
        assert asked.get("/admin/models", headers=heads).status_code == status
        assert asked.post("/admin/models/unload/m", json={}, headers=heads).status_code == status
    assert asked.get("/admin/models").status_code == 401
    assert len(rollout.asked) == 1


@pytest.mark.parametrize(
    ("heads", "called", "settings"),
    [
        ({}, "127.0.0.1", {"exposed": True}),
        ({}, "192.168.1.2", {"exposed": True, "host": "0.0.0.0"}),
        ({}, "attacker.example.org", {}),  # a name that was made to point at this machine
        ({"Origin": "http://127.0.0.1:8000"}, "127.0.0.1", {}),
        ({"X-Forwarded-For": "10.0.0.1"}, "127.0.0.1", {}),
        ({"Sec-Fetch-Site": "cross-site"}, "127.0.0.1", {}),
    ],
    ids=["exposed", "outside", "rebound", "page", "gateway", "browser"],
)
def test_without_keys_it_takes_a_person_at_this_machine(
    rollout: Rollout, heads: dict[str, str], called: str, settings: dict[str, Any]
) -> None:
    asked = client(rollout, called, **settings)
    assert asked.get("/admin/models", headers=heads).status_code == 403
    assert asked.post("/admin/models/unload/m", json={}, headers=heads).status_code == 403
    assert rollout.asked == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_web_page_could_send_unasked_is_refused(rollout: Rollout, kind: str) -> None:
    answer = client(rollout).post("/admin/models/unload/m", content=b"{}", headers={"Content-Type": kind})
    assert (answer.status_code, rollout.asked) == (415, [])


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"not json", 400, "the body"),
        (b"[]", 400, "the body"),
        (b'{"canary": 1.5}', 400, "canary"),
        (b'{"artefact": "a"}', 400, "artefact"),
        (b" " * (MAX_BODY_BYTES + 1), 413, None),
    ],
)
def test_an_order_that_is_none_is_refused(rollout: Rollout, body: bytes, status: int, where: str | None) -> None:
    heads = {"Content-Type": "application/json"}
    answer = client(rollout).post("/admin/models/promote/m", content=body, headers=heads)
    assert (answer.status_code, answer.json()["error"]["param"], rollout.asked) == (status, where, [])


def test_an_error_of_the_rollout_keeps_its_status(rollout: Rollout) -> None:
    async def refuse(verb: str, name: str, request: RolloutRequest) -> Steps:
        raise ApiError(409, "another change is under way", "busy")
        yield RolloutStep("", "")

    rollout.alone = refuse  # type: ignore[method-assign]
    assert client(rollout).post("/admin/models/promote/m", json={}).status_code == 409
