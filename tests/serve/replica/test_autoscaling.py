from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.serve
from hypothesis import given
from hypothesis import strategies as st
from ray.serve.config import AutoscalingPolicy
from ray.serve.handle import DeploymentHandle

from serve.config import Replicas, ServeConfig
from serve.ingress.limits.admission import Admission
from serve.ingress.replica_channel import ReplicaChannel, no_nodes
from serve.ingress.replica_client import ReplicaClient
from serve.ingress.telemetry.metrics import MetricLabels, Metrics
from serve.models.version import Version
from serve.replica.autoscaling import QUEUED_AUDIO, QueuedAudio, autoscaling
from serve.replica.transcriber import replicas
from tests.serve.fakes import PADDED
from tests.serve.made import made
from tests.serve.slow import clip, replicas_of, slow

VERSION, WHOSE = Version("slow"), MetricLabels("slow", "stable", "none")


def wanted(*queued: float, each: float = 480.0) -> int:
    context: Any = SimpleNamespace(aggregated_metrics={QUEUED_AUDIO: dict(enumerate(queued))})
    return QueuedAudio(each)(context)[0]


def test_there_is_a_replica_for_each_two_batches() -> None:
    assert [wanted(queued) for queued in (0.0, 30.0, 480.0, 481.0, 4800.0)] == [1, 1, 1, 2, 10]
    assert wanted(400.0, 400.0, 400.0) == 3


def test_before_any_report_there_is_one() -> None:
    assert QueuedAudio(480.0)(SimpleNamespace(aggregated_metrics=None))[0] == 1  # type: ignore[arg-type]
    assert QueuedAudio(480.0)(SimpleNamespace(aggregated_metrics={}))[0] == 1  # type: ignore[arg-type]


@given(st.lists(st.floats(0.0, 1e5), max_size=8), st.floats(1.0, 1e4))
def test_no_replica_has_more_than_its_share(queued: list[float], each: float) -> None:
    count = wanted(*queued, each=each)
    assert count >= 1 and sum(queued) <= count * each * (1 + 1e-9)


def test_the_configuration_reaches_serve() -> None:
    scaling = autoscaling(
        ServeConfig(model="m", replicas=Replicas(min=2, max=5, up_after_s=3, down_after_s=60), max_batch_audio_s=120.0)
    )
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 5)
    assert (scaling.upscale_delay_s, scaling.downscale_delay_s) == (3.0, 60.0)
    assert isinstance(scaling.policy, AutoscalingPolicy)
    assert scaling.policy.policy_kwargs == {"audio_s_each": 240.0}
    assert scaling.policy.get_policy().__name__ == "QueuedAudio"


@pytest.fixture
def scaled(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeploymentHandle]:
    """One replica or two, that take 0.6 s for each window of 30 s, two windows a batch."""
    monkeypatch.setattr("serve.replica.autoscaling.LOOK_BACK_S", 10.5)  # Serve warns of less than ten
    count = Replicas(min=1, max=2, up_after_s=0.5, down_after_s=1.0)
    config = ServeConfig(model="slow", replicas=count, cpus_each=1, max_batch_audio_s=60.0)
    try:
        yield ray.serve.run(replicas(config, made(slow(tmp_path, 0.02))), name="scaled", route_prefix=None)
    finally:
        ray.serve.delete("scaled", _blocking=False)


def running() -> int:
    return ray.serve.status().applications["scaled"].deployments["Transcriber"].replica_states.get("RUNNING", 0)


@pytest.mark.slow
def test_replicas_follow_the_load_up_and_down_and_no_request_fails(scaled: DeploymentHandle, tmp_path: Path) -> None:
    admission = Admission(100, 1e6)
    metrics = Metrics("slow", admission, 60.0)
    channel = ReplicaChannel(scaled, tuple, no_nodes)
    answered: list[str] = []
    seen: list[int] = []

    async def client(number: int, done: asyncio.Event) -> None:
        """Ask for one window after the other."""
        asked = 0
        while not done.is_set():
            with admission.enter() as ticket:
                ticket.expect(30.0)
                one = ReplicaClient(
                    channel, VERSION, PADDED, f"{number}-{asked}", WHOSE, ticket, metrics, time.monotonic() + 60.0
                )
                answered.append((await one.send(clip(f"{number}-{asked}"))).text)
                assert answered[-1] == f"{number}-{asked}"
            asked += 1

    async def look(until: int, done: asyncio.Event) -> None:
        """Ask how many replicas run until so many do: beside the clients, which a busy machine lets wait for it."""
        while not seen or (seen[-1] != until and time.monotonic() < end):
            seen.append(await asyncio.to_thread(running))
            await asyncio.sleep(0.5)  # each look costs a good part of a core while it lasts
        done.set()

    async def load(clients: int, until: int) -> None:
        done = asyncio.Event()
        await asyncio.gather(look(until, done), *[client(number, done) for number in range(clients)])

    end = time.monotonic() + 240.0
    assert running() == 1
    asyncio.run(load(16, until=2))
    assert running() == 2
    asyncio.run(load(1, until=1))
    assert running() == 1
    assert max(seen) <= 2  # at no time more, though the second may go and come again while one answer takes long
    assert len(replicas_of(tmp_path)) >= 2
    assert len(answered) > 16
