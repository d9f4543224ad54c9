from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import ray
import ray.serve

from asr.errors import UserError
from asr.inference.engine import Engine
from serve.app import APP, build, deploy, drain, running
from serve.config import ServeConfig
from tests.serve.conftest import FakeEndpoint
from tests.serve.fakes import FakeEngine, voice
from tests.serve.made import made
from tests.speed import WAIT_S


def never(config: ServeConfig) -> Engine:
    raise AssertionError("the engine was made")


def deployments(config: ServeConfig) -> tuple[Any, Any]:
    """The ingress and the transcriber of an application that is not deployed."""
    api = build(config, never)._bound_deployment
    assert [one._bound_deployment.name for one in api.init_args[1:]] == ["Transcriber", "ModelController"]
    return api, api.init_args[1]._bound_deployment


def test_the_application_is_ready_when_the_block_begins(endpoint: str) -> None:
    assert endpoint.startswith("http://127.0.0.1:")
    assert ray.serve.status().applications[APP].status == "RUNNING"


def test_a_serve_that_runs_already_is_left_alone(endpoint: str) -> None:
    with pytest.raises(UserError, match="already runs"), running(ServeConfig(model="m", port=0), made(never)):
        raise AssertionError("a second one was started")
    assert ray.serve.status().applications[APP].status == "RUNNING"


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wanted = f"cannot listen on 127.0.0.1:{port}.*port=0"
        with pytest.raises(UserError, match=wanted), running(ServeConfig(model="m", port=port), made(never)):
            raise AssertionError("it listened")


def test_a_model_that_does_not_exist_is_named_before_anything_starts() -> None:
    with (
        pytest.raises(UserError, match=r"no checkpoint 'builtin:tinyen' .*builtin:tiny\.en"),
        running(ServeConfig(model="builtin:tinyen")),
    ):
        raise AssertionError("it was served")


def test_an_artifact_that_was_never_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="never finished"), running(ServeConfig(model=str(tmp_path))):
        raise AssertionError("it was served")


@pytest.mark.slow
def test_a_model_that_does_not_load_ends_the_deployment_at_once_and_with_the_reason(endpoint: str) -> None:
    def refuse(config: ServeConfig) -> Engine:
        raise UserError("this is not a Whisper", "choose another")

    with pytest.raises(UserError, match=r"^this is not a Whisper \(choose another\)$"):
        deploy(ServeConfig(model="m", cpus_each=1), made(refuse), "broken", "/broken")
    assert "broken" not in ray.serve.status().applications


@pytest.mark.medium
def test_resources_and_limits_reach_the_deployments() -> None:
    api, transcriber = deployments(ServeConfig(model="m", replicas=3, cpus_each=5, gpu=0.5, max_queued=7))
    assert transcriber.num_replicas == 3
    assert transcriber.ray_actor_options["num_cpus"] == 5
    assert transcriber.ray_actor_options["num_gpus"] == 0.5
    assert api.max_ongoing_requests > 7


@pytest.mark.medium
def test_a_range_of_replicas_is_scaled_by_queued_audio() -> None:
    _, transcriber = deployments(ServeConfig(model="m", replicas={"min": 2, "max": 5}))
    scaling = transcriber._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 5)
    assert scaling.policy.policy_kwargs == {"audio_s_each": 480.0}


def test_keys_that_cannot_be_read_are_named_before_anything_starts(tiny_en_name: str) -> None:
    with (
        pytest.raises(UserError, match=r"keys=/nowhere/keys\.yaml cannot be read"),
        running(ServeConfig(model=tiny_en_name, keys="/nowhere/keys.yaml")),
    ):
        raise AssertionError("it was served")


@pytest.mark.slow
def test_a_drained_application_answers_who_is_in_and_lets_nobody_in_any_more(endpoint: str, tmp_path: Path) -> None:
    config = ServeConfig(model="m", cpus_each=1, request_timeout_s=WAIT_S)
    deploy(config, made(lambda config: FakeEngine(config, tmp_path)), "drained", "/drained")
    try:
        check_draining(FakeEndpoint(f"{endpoint}/drained", tmp_path))
    finally:
        ray.serve.delete("drained", _blocking=False)


def check_draining(fake: FakeEndpoint) -> None:
    with (
        openai.OpenAI(base_url=f"{fake.url}/v1", api_key="none-needed", max_retries=0) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        with fake.hold():
            early = pool.submit(client.audio.transcriptions.create, model="m", file=voice(4.0), language="en")
            while not fake.batches():
                assert not early.done()
            draining = pool.submit(drain, "drained")
            while refusal(client) != (503, "shutting_down"):
                assert not draining.done()
            not_ready = httpx.get(f"{fake.url}/readyz", timeout=WAIT_S)
            assert (not_ready.status_code, not_ready.json()["error"]["code"]) == (503, "shutting_down")
            assert httpx.get(f"{fake.url}/healthz", timeout=WAIT_S).status_code == 200
        assert early.result().text == "4"
        draining.result()


def refusal(client: openai.OpenAI) -> tuple[int, str | None]:
    """Ask for a model that does not exist: refused either way, but once the house is closed, for that reason."""
    with pytest.raises(openai.APIStatusError) as raised:
        client.audio.transcriptions.create(model="none", file=b"nothing")
    return raised.value.status_code, raised.value.code
