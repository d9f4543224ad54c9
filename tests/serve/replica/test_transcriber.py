"""Batches on the real Serve path: the fake engine refuses a batch that is not what it should be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import ray.serve
from ray.serve.handle import DeploymentHandle

from asr.inference.isolation import MAX_FAILURES
from asr.transcript import DecodingRequest, Transcript
from serve.config import ServeConfig
from serve.models.version import Version
from serve.replica.autoscaling import QUEUED_AUDIO
from serve.replica.transcriber import Transcriber
from serve.replica.window_result import BatchInfo, WindowResult
from tests.serve.conftest import FakeEndpoint
from tests.serve.fakes import POISON, FakeEngine
from tests.serve.made import made
from tests.speed import WAIT_S


@pytest.fixture
def replica(fake: FakeEndpoint) -> DeploymentHandle:
    (fake.folder / "batches").write_text("")
    return ray.serve.get_deployment_handle("Transcriber", "fake")


def clip(seconds: int, language: str = "en") -> DecodingRequest:
    return DecodingRequest(np.zeros((80, seconds * 100), np.float16), language)


@contextmanager
def held(fake: FakeEndpoint, replica: DeploymentHandle) -> Iterator[None]:
    """Hold the engine in a batch of one clip of a second, until all that was sent in the block waits in the replica."""
    with fake.hold():
        first = replica.transcribe.remote(clip(1))
        while not fake.batches():
            pass
        yield
        for _ in range(20):  # calls of one handle arrive in order, or nearly so: these are the last
            replica.describe.remote().result()
    assert first.result().transcript.text == "1"


def test_what_comes_while_a_batch_runs_shares_the_next(fake: FakeEndpoint, replica: DeploymentHandle) -> None:
    with held(fake, replica):
        waiting = []
        for seconds in range(2, 8):
            waiting.append(replica.transcribe.remote(clip(seconds)))
            replica.describe.remote().result()  # so that they come one by one, as separate requests do
    assert [int(response.result().transcript.text) for response in waiting] == list(range(2, 8))
    assert [sorted(batch) for batch in fake.batches()] == [[1], [2, 3, 4, 5, 6, 7]]


def test_batches_are_bounded_by_the_seconds_that_the_encoder_sees(
    fake: FakeEndpoint, replica: DeploymentHandle
) -> None:
    with held(fake, replica):
        waiting = [replica.transcribe.remote(clip(2)) for _ in range(20)]
    assert {response.result().transcript.text for response in waiting} == {"2"}
    # 240 s; a model without the short context sees 30 s of each
    assert [len(batch) for batch in fake.batches()] == [1, 8, 8, 4]


def test_a_short_clip_does_not_wait_behind_a_two_hour_file(fake: FakeEndpoint, replica: DeploymentHandle) -> None:
    with held(fake, replica):
        film = [replica.transcribe.remote(clip(30), "film", position) for position in range(240)]
        replica.describe.remote().result()
        short = replica.transcribe.remote(clip(2), "short")
    heard = short.result()
    assert heard.transcript.text == "2"
    assert [heard.result().transcript.text for heard in film] == ["30"] * 240
    assert fake.batches()[1].count(2) == 1
    assert [len(batch) for batch in fake.batches()] == [1] + [8] * 30 + [1]


def test_a_window_comes_back_with_its_wait_and_one_of_each_batch_with_the_batch(
    fake: FakeEndpoint, replica: DeploymentHandle
) -> None:
    with held(fake, replica):
        waiting = [replica.transcribe.remote(clip(2)) for _ in range(3)]
    heard = [response.result() for response in waiting]
    assert all(0.0 < one.waited_s < 60.0 for one in heard)
    (batch,) = [one.batch for one in heard if one.batch is not None]
    assert isinstance(batch, BatchInfo) and (batch.windows, batch.audio_s) == (3, 90.0)
    assert batch.seconds > 0.0


def test_one_clip_that_fails_does_not_fail_its_neighbours(fake: FakeEndpoint, replica: DeploymentHandle) -> None:
    with held(fake, replica):
        good = [replica.transcribe.remote(clip(seconds)) for seconds in (2, 3)]
        bad = replica.transcribe.remote(clip(9, POISON))
    assert [response.result().transcript.text for response in good] == ["2", "3"]
    with pytest.raises(RuntimeError, match="a secret of the house"):
        bad.result()


def test_what_was_withdrawn_while_it_waited_is_never_decoded(fake: FakeEndpoint, replica: DeploymentHandle) -> None:
    with held(fake, replica):
        withdrawn, kept = replica.transcribe.remote(clip(2)), replica.transcribe.remote(clip(3))
        replica.describe.remote().result()
        withdrawn.cancel()
    assert kept.result().transcript.text == "3"
    assert fake.batches() == [[1], [3]]


class Gate:
    """An engine that decodes while its gate is open, and says what it was given."""

    def __init__(self, config: ServeConfig, folder: Path) -> None:
        self.info = FakeEngine(config, folder).info
        self.open = threading.Event()
        self.batches: list[int] = []
        self.nbytes = 1_000_000
        self.group = config.model

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        self.batches.append(len(clips))
        assert self.open.wait(WAIT_S)
        return [Transcript("word", (1,), "en") for _ in clips]


def test_what_is_not_decoded_in_time_is_answered_at_once_and_never_decoded(tmp_path: Path) -> None:
    gate = Gate(ServeConfig(model="fake"), tmp_path)
    replica = Transcriber(ServeConfig(model="fake"), made(lambda config: gate))

    async def ask() -> None:
        first = asyncio.create_task(replica.transcribe(clip(1)))
        while not gate.batches:
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await replica.transcribe(clip(2), within_s=0.05)
        with pytest.raises(TimeoutError):
            await replica.transcribe(clip(2), within_s=-1.0)
        patient = asyncio.create_task(replica.transcribe(clip(3), within_s=30.0))
        await asyncio.sleep(0.01)
        assert replica.record_autoscaling_stats() == {QUEUED_AUDIO: 60.0}
        gate.open.set()
        assert (await first).transcript.text == (await patient).transcript.text == "word"

    asyncio.run(ask())
    assert gate.batches == [1, 1]
    assert replica.record_autoscaling_stats() == {QUEUED_AUDIO: 0.0}


def test_engines_of_one_group_share_batches_and_others_do_not(tmp_path: Path) -> None:
    gates: dict[str, Gate] = {}

    def make_engine(config: ServeConfig) -> Gate:
        gate = gates[config.model] = Gate(config, tmp_path)
        gate.group = config.model[0]
        if config.model != "first":
            gate.open.set()
        return gate

    replica = Transcriber(ServeConfig(model="first"), made(make_engine))

    async def ask() -> list[WindowResult]:
        first = asyncio.create_task(replica.transcribe(clip(1)))
        while not gates["first"].batches:
            await asyncio.sleep(0.01)
        names = ["same 1", "same 2", "other", "same 1"]
        waiting = [asyncio.create_task(replica.transcribe(clip(2), version=Version(name))) for name in names]
        while replica.record_autoscaling_stats()[QUEUED_AUDIO] < 150.0:
            await asyncio.sleep(0.01)
        gates["first"].open.set()
        await first
        return await asyncio.gather(*waiting)

    heard = asyncio.run(ask())
    assert sorted(one.batch.windows for one in heard if one.batch is not None) == [1, 3]
    assert (gates["same 1"].batches, gates["same 2"].batches, gates["other"].batches) == ([2], [1], [1])
    assert len(replica.held().nbytes) == 4


def test_a_model_stays_while_it_decodes_though_who_asked_has_left(tmp_path: Path) -> None:
    gates: dict[str, Gate] = {}

    def make_engine(config: ServeConfig) -> Gate:
        gate = gates[config.model] = Gate(config, tmp_path)
        return gate

    replica = Transcriber(ServeConfig(model="first"), made(make_engine))

    async def ask() -> None:
        asked = asyncio.create_task(replica.transcribe(clip(1)))
        while not gates["first"].batches:
            await asyncio.sleep(0.01)
        asked.cancel()
        dropping = asyncio.create_task(replica.drop(Version("first")))
        while replica.held().nbytes:
            await asyncio.sleep(0.01)
        assert not dropping.done() and replica.held().total == 1_000_000
        gates["first"].open.set()
        await dropping
        assert replica.held().total == 0

    asyncio.run(ask())


def test_only_failures_in_a_row_make_a_replica_unhealthy(tmp_path: Path) -> None:
    engine = FakeEngine(ServeConfig(model="fake"), tmp_path)
    replica = Transcriber(ServeConfig(model="fake"), made(lambda config: engine))
    good, bad = clip(1), clip(1, POISON)
    for one in (bad, bad, good, bad, bad):
        replica._thread.submit(replica._outcomes, [(engine, one)]).result()
        replica.check_health()
    replica._thread.submit(replica._outcomes, [(engine, bad)]).result()
    with pytest.raises(RuntimeError, match=f"last {MAX_FAILURES} batches"):
        replica.check_health()
