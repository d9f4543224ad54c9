from __future__ import annotations

import socket
from pathlib import Path

import pytest
import ray
import ray.serve

from asr.errors import UserError
from serve.app import APP, build, deploy, running
from serve.config import ServeConfig
from serve.engine import Engine


def never(config: ServeConfig) -> Engine:
    raise AssertionError("the engine was made")


def test_the_application_is_ready_when_the_block_begins(endpoint: str) -> None:
    assert endpoint.startswith("http://127.0.0.1:")
    assert ray.serve.status().applications[APP].status == "RUNNING"


def test_a_serve_that_runs_already_is_left_alone(endpoint: str) -> None:
    with pytest.raises(UserError, match="already runs"), running(ServeConfig(model="m", port=0), never):
        raise AssertionError("a second one was started")
    assert ray.serve.status().applications[APP].status == "RUNNING"


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wanted = f"cannot listen on 127.0.0.1:{port}.*port=0"
        with pytest.raises(UserError, match=wanted), running(ServeConfig(model="m", port=port), never):
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


def test_a_model_that_does_not_load_ends_the_deployment_at_once_and_with_the_reason(endpoint: str) -> None:
    def refuse(config: ServeConfig) -> Engine:
        raise UserError("this is not a Whisper", "choose another")

    with pytest.raises(UserError, match=r"^this is not a Whisper \(choose another\)$"):
        deploy(ServeConfig(model="m", cpus_each=1), refuse, "broken", "/broken")


def test_resources_and_limits_reach_the_deployments() -> None:
    app = build(ServeConfig(model="m", replicas=3, cpus_each=5, gpu=True, max_queued=7), never)
    api = app._bound_deployment
    transcriber = api.init_args[1]._bound_deployment
    assert transcriber.num_replicas == 3
    assert transcriber.ray_actor_options["num_cpus"] == 5
    assert transcriber.ray_actor_options["num_gpus"] == 1
    assert api.max_ongoing_requests > 7
