"""The file that an operator copies, deployed as KubeRay would, on the Serve of the tests' Ray."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import ray.serve
import yaml
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from asr.errors import UserError
from asr.scoring.error_rates import score
from asr.utterance import Utterance
from serve.builder import application
from serve.ingress.api import Api
from serve.replica.transcriber import Transcriber
from tests.speed import WAIT_S

RAY_SERVICE = Path(__file__).resolve().parents[2] / "cluster/kuberay/serve.yaml"
KEY = "a key of the deployed endpoint"
STARTING = (ApplicationStatus.NOT_STARTED, ApplicationStatus.DEPLOYING)


def serve_config() -> dict[str, Any]:
    """What the RayService has Serve run."""
    written: dict[str, Any] = yaml.safe_load(RAY_SERVICE.read_text(encoding="utf-8"))
    config: dict[str, Any] = yaml.safe_load(written["spec"]["serveConfigV2"])
    return config


@pytest.fixture(scope="module")
def deployed(endpoint: str, tiny_en_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the application of the RayService, with another model, one replica, one ingress and no GPU.

    The tests' Ray has six CPUs. Two ingresses would wait for one that the applications beside them hold.
    """
    folder = tmp_path_factory.mktemp("deployed")
    keys, registry = folder / "keys.yaml", folder / "registry.json"
    keys.write_text(f"- {{name: tester, key: {KEY}}}\n")
    config = serve_config()
    (app,) = config["applications"]
    here: dict[str, Any] = {"model": tiny_en_name, "keys": str(keys), "registry": str(registry)}
    here |= {"gpu": 0, "cpus_each": 1, "replicas": 1, "ingresses": 1}
    assert set(here) <= set(app["args"])
    app |= {"name": "deployed", "route_prefix": "/deployed", "args": app["args"] | here}
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=False)  # else for a minute
    until = time.monotonic() + WAIT_S
    while (state := ray.serve.status().applications["deployed"]).status != ApplicationStatus.RUNNING:
        assert state.status in STARTING and time.monotonic() < until, state
        time.sleep(0.2)
    yield f"{endpoint}/deployed"
    ray.serve.delete("deployed", _blocking=False)


@pytest.mark.slow
def test_the_ray_service_answers_with_the_words_that_were_said(
    deployed: str, flacs: list[bytes], english_clips: list[Utterance]
) -> None:
    with openai.OpenAI(base_url=f"{deployed}/v1", api_key=KEY, max_retries=0) as client:
        heard = [client.audio.transcriptions.create(model="mine", file=flac, language="en").text for flac in flacs[:2]]
    assert score([clip.text for clip in english_clips[:2]], heard, "normalised", "en").rate < 0.2


@pytest.mark.slow
def test_it_asks_for_a_key_and_says_that_it_is_ready(deployed: str, flacs: list[bytes]) -> None:
    stranger = openai.OpenAI(base_url=f"{deployed}/v1", api_key="unknown", max_retries=0)
    with stranger as client, pytest.raises(openai.AuthenticationError):
        client.audio.transcriptions.create(model="mine", file=flacs[0])
    with urllib.request.urlopen(f"{deployed}/readyz", timeout=WAIT_S) as response:
        assert json.load(response) == {"status": "ready"}


def test_the_deployments_that_the_file_names_are_those_of_the_application() -> None:
    (app,) = serve_config()["applications"]
    assert {deployment["name"] for deployment in app["deployments"]} == {Api.__name__, Transcriber.__name__}


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(UserError, match=r"(?s)replicas.*did you mean 'model'"):
        application({"modl": "m", "model": "m", "exposed": True, "replicas": 0})


@pytest.mark.medium
def test_what_can_be_reached_from_outside_asks_for_keys_or_says_who_does() -> None:
    with pytest.raises(UserError, match="name a file of keys="):
        application({"model": "m"})
    assert isinstance(application({"model": "m", "exposed": True}), ray.serve.Application)


@pytest.mark.parametrize("name", ["host", "port"])
def test_where_it_listens_is_not_its_own_to_say(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: .*http_options"):
        application({"model": "m", "exposed": True, name: "127.0.0.1"})
