from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import ray.exceptions

from asr.transcript import Transcript
from serve.ingress.limits.admission import Admission, Ticket
from serve.ingress.replica_channel import ReplicaChannel, no_nodes
from serve.ingress.replica_client import ATTEMPTS, ReplicaClient
from serve.ingress.telemetry.metrics import MetricLabels, Metrics
from serve.models.version import Version
from serve.replica.window_result import BatchInfo, WindowResult
from tests.serve.conftest import Pair
from tests.serve.fakes import PADDED
from tests.serve.ingress.telemetry.test_metrics import text
from tests.serve.slow import clip, replicas_of

VERSION = Version("first")


def sender(
    transcriber: Any, ticket: Ticket, metrics: Metrics, within_s: float = 60.0, request: str = "r"
) -> ReplicaClient:
    labels = MetricLabels("m", "stable", "none")
    channel = ReplicaChannel(transcriber, tuple, no_nodes)
    return ReplicaClient(channel, VERSION, PADDED, request, labels, ticket, metrics, time.monotonic() + within_s)


@pytest.fixture
def admission() -> Admission:
    return Admission(10, 1e6)


@pytest.fixture
def metrics(admission: Admission) -> Metrics:
    return Metrics("m", admission, 240.0)


class Stub:
    """A handle whose replicas do what they are told, one after the other."""

    def __init__(self, *deeds: Callable[[], Any]) -> None:
        self.deeds = list(deeds)
        self.asked: list[tuple[Any, ...]] = []
        self.cancelled = 0
        self.transcribe = self.transcribed = self

    def options(self, **_: Any) -> Stub:
        return self

    def remote(self, *asked: Any) -> Stub:
        self.asked.append(asked)
        return self

    def __await__(self) -> Iterator[Any]:
        return self._answer().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield await self._answer()

    async def _answer(self) -> Any:
        await asyncio.sleep(0)
        return self.deeds.pop(0)()

    def cancel(self) -> None:
        self.cancelled += 1


def heard() -> WindowResult:
    return WindowResult(Transcript("word", (1,), "en"), 0.25, BatchInfo(2, 60.0, 3.0))


def die() -> None:
    raise ray.exceptions.ActorDiedError()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.ingress.replica_client.PAUSE_S", 0.0)


def test_a_window_brings_its_request_place_and_time(admission: Admission, metrics: Metrics) -> None:
    stub = Stub(heard, heard)
    with admission.enter() as ticket:
        ticket.expect(60.0)
        one = sender(stub, ticket, metrics, request="abc")
        assert asyncio.run(one.send(clip())).text == "word"
        assert admission.audio_s == 30.0
        asyncio.run(one.send(clip()))
        assert admission.audio_s == 0.0
    turns = {turns for _, turns, *_ in stub.asked}
    assert len(turns) == 1 and turns.pop().startswith("abc/")
    assert [position for _, _, position, *_ in stub.asked] == [0, 1]
    assert all(59.0 < within_s <= 60.0 and version == VERSION for *_, within_s, version, _ in stub.asked)
    assert {key for *_, key in stub.asked} == {"none"}
    assert admission.speed.audio_per_s is not None


def test_two_requests_with_the_same_id_take_turns_of_their_own(admission: Admission, metrics: Metrics) -> None:
    stub = Stub(heard, heard)
    with admission.enter() as ticket:
        for _ in range(2):
            asyncio.run(sender(stub, ticket, metrics, request="abc").send(clip()))
    assert len({turns for _, turns, *_ in stub.asked}) == 2


def test_a_window_whose_replica_died_is_sent_again(admission: Admission, metrics: Metrics) -> None:
    stub = Stub(die, die, heard)
    with admission.enter() as ticket:
        assert asyncio.run(sender(stub, ticket, metrics).send(clip())).text == "word"
    assert [position for _, _, position, *_ in stub.asked] == [0, 0, 0]
    assert 'windows_sent_again_total{ingress="one",key="none",model="m",version="stable"} 2.0' in text(metrics)


def test_a_window_that_all_replicas_die_of_is_given_up(admission: Admission, metrics: Metrics) -> None:
    stub = Stub(*[die] * (ATTEMPTS + 1))
    with admission.enter() as ticket, pytest.raises(ray.exceptions.ActorDiedError):
        asyncio.run(sender(stub, ticket, metrics).send(clip()))
    assert len(stub.asked) == ATTEMPTS


def test_a_window_that_cannot_be_decoded_is_not_sent_again(admission: Admission, metrics: Metrics) -> None:
    def refuse() -> None:
        raise ValueError

    stub = Stub(refuse)
    with admission.enter() as ticket, pytest.raises(ValueError):
        asyncio.run(sender(stub, ticket, metrics).send(clip()))
    assert len(stub.asked) == 1


def test_who_is_cancelled_withdraws_the_window(admission: Admission, metrics: Metrics) -> None:
    stub = Stub()

    async def leave() -> None:
        with admission.enter() as ticket:
            task = asyncio.create_task(sender(stub, ticket, metrics).send(clip()))
            while not stub.asked:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    stub.deeds = [asyncio.CancelledError]  # never reached
    asyncio.run(leave())
    assert stub.cancelled == 1


@pytest.mark.slow
def test_a_replica_that_is_killed_costs_no_request(pair: Pair, admission: Admission, metrics: Metrics) -> None:
    async def ask(number: int) -> list[str]:
        with admission.enter() as ticket:
            one = sender(pair.handle, ticket, metrics, request=str(number))
            texts = await asyncio.gather(*[one.send(clip(f"{number}-{place}")) for place in range(6)])
        return [transcript.text for transcript in texts]

    async def kill() -> int:
        while not (busy := [pid for pid, prompts in replicas_of(pair.folder).items() if len(prompts) >= 4]):
            await asyncio.sleep(0.05)
        victim = busy[0]
        os.kill(victim, signal.SIGKILL)
        return victim

    async def both() -> tuple[list[list[str]], int]:
        *answers, victim = await asyncio.gather(*[ask(number) for number in range(8)], kill())
        return answers, victim

    assert len(replicas_of(pair.folder)) == 2
    answers, victim = asyncio.run(both())
    assert answers == [[f"{number}-{place}" for place in range(6)] for number in range(8)]
    decoded = Counter(
        prompt for pid, prompts in replicas_of(pair.folder).items() for prompt in prompts if pid != victim
    )
    assert sum(decoded.values()) >= 24  # the other took over what the dead one had
    again = re.search(
        r'windows_sent_again_total{ingress="one",key="none",model="m",version="stable"} ([0-9.]+)', text(metrics)
    )
    assert again and 1 <= float(again[1]) <= 48
