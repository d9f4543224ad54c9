"""One real endpoint and one with a fake engine, both on the Serve of the session's Ray.

They end with this folder's tests: on two cores, their replicas would keep training workers from being scheduled.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import ray.serve
from ray.serve.handle import DeploymentHandle

from asr.errors import UserError
from asr.inference.engine import Engine
from asr.utterance import Utterance
from serve.app import deploy, running
from serve.config import ServeConfig
from serve.models.replica_group import ReplicaGroup
from serve.replica.engine_loader import load_engine
from serve.replica.transcriber import replicas
from tests.serve.fakes import FakeEngine
from tests.serve.guarded import Guarded, run_guarded
from tests.serve.made import made
from tests.serve.slow import SlowEngine
from tests.speed import WAIT_S

# How often replicas tell the controller what waits, in s: Serve's own ten would make each change of their number wait.
os.environ["RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "1"
# Where the tests beside these have the cores, a proxy takes longer to start than the 5 s after which Serve kills it.
os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"

KEY = "a key of the fake endpoint"
ADMIN_KEY = "a key that may change its models"
LIMITS = {"max_upload_bytes": 3_000_000, "max_audio_s": 80.0}


def metrics(url: str, key: str = ADMIN_KEY) -> str:
    """Return what an endpoint tells Prometheus, which has an admin's key, without saying which ingress counted it."""
    answer = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"}, timeout=WAIT_S)
    return re.sub(r'ingress="\w+",', "", answer.raise_for_status().text)


@dataclass(frozen=True)
class FakeEndpoint:
    """An endpoint whose engine keeps its diary in ``folder``."""

    url: str
    folder: Path

    @contextmanager
    def hold(self, after: int = 0) -> Iterator[None]:
        """Let the engine finish no batch during the block, or only the first ``after``. The diary begins anew."""
        self.clear()
        (self.folder / "hold").write_text(str(after))
        try:
            yield
        finally:
            (self.folder / "hold").unlink()

    def clear(self) -> None:
        """Begin the diary anew."""
        (self.folder / "batches").write_text("")

    def asked(self) -> list[list[dict[str, Any]]]:
        """Return the batches begun so far: of each, what its clips ask for (see ``fakes.note``)."""
        return [json.loads(line) for line in (self.folder / "batches").read_text().splitlines()]

    def clips(self) -> list[dict[str, Any]]:
        """Return the same of all clips, whatever their batches."""
        return [clip for batch in self.asked() for clip in batch]

    def batches(self) -> list[list[int]]:
        """Return the batches begun so far: of each, the seconds of its clips."""
        return [[clip["seconds"] for clip in batch] for batch in self.asked()]


@pytest.fixture(scope="package")
def endpoint(ray_cluster: None, tiny_en_name: str) -> Iterator[str]:
    """The base URL of an endpoint that serves a real checkpoint as ``tiny``."""
    with running(ServeConfig(model=tiny_en_name, name="tiny", port=0, cpus_each=1, **LIMITS)) as url:
        yield url


@contextmanager
def beside(endpoint: str, name: str, folder: Path, request_timeout_s: float) -> Iterator[FakeEndpoint]:
    """Serve an application with a fake engine beside the real one.

    It asks for a key, admits seven requests and forms batches of 240 s.
    """
    keys = [f"- {{name: tester, key: {KEY}}}", f"- {{name: keeper, key: {ADMIN_KEY}, admin: true}}"]
    (folder / "keys.yaml").write_text("\n".join(keys))
    config = ServeConfig(
        model="fake",
        max_queued=7,
        batch_wait_s=0.0,
        cpus_each=1,
        request_timeout_s=request_timeout_s,
        keys=str(folder / "keys.yaml"),
        access_log=str(folder / "access.jsonl"),
    )

    def make_engine(config: ServeConfig) -> Engine:
        if config.model.startswith("broken"):
            raise UserError(f"{config.model} is damaged", "copy it anew")
        return FakeEngine(config, folder)

    deploy(config, made(make_engine), name, f"/{name}")
    try:
        yield FakeEndpoint(f"{endpoint}/{name}", folder)
    finally:
        ray.serve.delete(name, _blocking=False)


@pytest.fixture(scope="package")
def fake(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeEndpoint]:
    """What ``beside`` serves, which waits for a request as long as a busy machine may take."""
    with beside(endpoint, "fake", tmp_path_factory.mktemp("fake"), WAIT_S) as served:
        yield served


@dataclass(frozen=True)
class Pair:
    """Two replicas without an ingress, whose engines keep diaries in ``folder`` (see ``slow``)."""

    handle: DeploymentHandle
    folder: Path

    async def complete(self) -> None:
        """Return when there are two, of which none has decoded anything."""
        replica_group = ReplicaGroup(self.handle)
        while len(await replica_group.held()) < 2:
            await asyncio.sleep(0.1)
        for diary in self.folder.iterdir():
            if Path("/proc", diary.name).exists():
                diary.write_text("")
            else:
                diary.unlink()


@pytest.fixture(scope="module")
def deployed_pair(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """They take 0.3 s for each window of 30 s, two windows a batch; models but ``first`` take no time.

    They end with their module: Ray has no room for them and a third application.
    """
    folder = tmp_path_factory.mktemp("pair")

    def make_engine(config: ServeConfig) -> Engine:
        if config.model == "broken":
            raise UserError("broken is damaged")
        return SlowEngine(config, folder, 0.01 if config.model == "first" else 0.0)

    config = ServeConfig(model="first", replicas=2, cpus_each=1, max_batch_audio_s=60.0)
    try:
        yield Pair(ray.serve.run(replicas(config, made(make_engine)), name="pair", route_prefix=None), folder)
    finally:
        ray.serve.delete("pair")


@pytest.fixture
def pair(deployed_pair: Pair) -> Pair:
    """The same at the beginning of each test, whatever the test before did to them."""
    asyncio.run(deployed_pair.complete())
    return deployed_pair


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """An endpoint in processes of its own, behind HAProxy, that listens to the outside and asks for a key."""
    with run_guarded(tmp_path_factory.mktemp("guarded")) as endpoint:
        yield endpoint


@pytest.fixture(scope="package")
def client(endpoint: str) -> Iterator[openai.OpenAI]:
    """The client that customers have, on the real endpoint."""
    with openai.OpenAI(base_url=f"{endpoint}/v1", api_key="none-needed", max_retries=0) as client:
        yield client


@pytest.fixture(scope="package")
def fake_client(fake: FakeEndpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="package")
def engine(tiny_en_name: str) -> Engine:
    """The same checkpoint in this process."""
    return load_engine(ServeConfig(model=tiny_en_name, name="tiny", cpus_each=1))


@pytest.fixture(scope="package")
def flacs(english_clips: list[Utterance]) -> list[bytes]:
    """The English clips as a client would send them."""
    return [Path(str(clip.audio)).read_bytes() for clip in english_clips[:12]]
