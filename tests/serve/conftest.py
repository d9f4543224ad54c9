"""One real endpoint and one with a fake engine, both on the Serve of the session's Ray.

They end with this folder's tests: on two cores, their replicas would keep training workers from being scheduled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from asr.utterance import Utterance
from serve.app import deploy, running
from serve.config import ServeConfig
from serve.engine import Engine, load_engine
from tests.serve.fakes import FakeEngine

LIMITS = {"max_upload_bytes": 3_000_000, "max_audio_s": 80.0}


@dataclass(frozen=True)
class FakeEndpoint:
    """An endpoint whose engine keeps its diary in ``folder``."""

    url: str
    folder: Path

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let the engine finish no batch during the block. The diary begins anew."""
        (self.folder / "batches").write_text("")
        (self.folder / "hold").touch()
        try:
            yield
        finally:
            (self.folder / "hold").unlink()

    def batches(self) -> list[list[int]]:
        """Return the batches begun so far: of each, the seconds of its clips."""
        lines = (self.folder / "batches").read_text().splitlines()
        return [[int(word) for word in line.split()] for line in lines]


@pytest.fixture(scope="package")
def endpoint(ray_cluster: None, tiny_en_name: str) -> Iterator[str]:
    """The base URL of an endpoint that serves a real checkpoint as ``tiny``."""
    with running(ServeConfig(model=tiny_en_name, name="tiny", port=0, cpus_each=1, **LIMITS)) as url:
        yield url


@pytest.fixture(scope="package")
def fake(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> FakeEndpoint:
    """A second application beside the real one; it admits seven requests and forms batches of up to 240 s."""
    folder = tmp_path_factory.mktemp("fake")
    config = ServeConfig(model="fake", max_queued=7, batch_wait_s=0.0, cpus_each=1, request_timeout_s=10.0)

    def make_engine(config: ServeConfig) -> Engine:
        return FakeEngine(config, folder)

    deploy(config, make_engine, "fake", "/fake")
    return FakeEndpoint(f"{endpoint}/fake", folder)


@pytest.fixture(scope="package")
def client(endpoint: str) -> Iterator[openai.OpenAI]:
    """The client that customers have, on the real endpoint."""
    with openai.OpenAI(base_url=f"{endpoint}/v1", api_key="none-needed", max_retries=0) as client:
        yield client


@pytest.fixture(scope="package")
def fake_client(fake: FakeEndpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake.url}/v1", api_key="none-needed", max_retries=0) as client:
        yield client


@pytest.fixture(scope="package")
def engine(tiny_en_name: str) -> Engine:
    """The same checkpoint in this process."""
    return load_engine(ServeConfig(model=tiny_en_name, name="tiny", cpus_each=1))


@pytest.fixture(scope="package")
def flacs(english_clips: list[Utterance]) -> list[bytes]:
    """The English clips as a client would send them."""
    return [Path(str(clip.audio)).read_bytes() for clip in english_clips[:12]]
