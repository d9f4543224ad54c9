"""Batches on the real Serve path: the fake engine refuses a batch that is not what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import ray.serve
from ray.serve.handle import DeploymentHandle

from asr.decode import Clip
from serve.config import ServeConfig
from serve.transcriber import MAX_FAILURES, Transcriber, Window, batch_audio_s
from tests.serve.conftest import FakeEndpoint
from tests.serve.fakes import POISON, FakeEngine


@pytest.fixture
def replica(fake: FakeEndpoint) -> DeploymentHandle:
    (fake.folder / "batches").write_text("")
    return ray.serve.get_deployment_handle("Transcriber", "fake")


def clip(seconds: int, language: str = "en") -> Clip:
    return Clip(np.zeros((80, seconds * 100), np.float16), language)


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
    assert first.result().text == "1"


def test_what_comes_while_a_batch_runs_shares_the_next(fake: FakeEndpoint, replica: DeploymentHandle) -> None:
    with held(fake, replica):
        waiting = []
        for seconds in range(2, 8):
            waiting.append(replica.transcribe.remote(clip(seconds)))
            replica.describe.remote().result()  # so that they come one by one, as separate requests do
    assert [int(response.result().text) for response in waiting] == list(range(2, 8))
    assert [sorted(batch) for batch in fake.batches()] == [[1], [2, 3, 4, 5, 6, 7]]


def test_batches_are_bounded_by_the_seconds_that_the_encoder_sees(
    fake: FakeEndpoint, replica: DeploymentHandle
) -> None:
    with held(fake, replica):
        waiting = [replica.transcribe.remote(clip(2)) for _ in range(20)]
    assert {response.result().text for response in waiting} == {"2"}
    sizes = [len(batch) for batch in fake.batches()]
    assert max(sizes) == 8  # 240 s; a model without the short context sees 30 s of each
    assert sum(sizes) == 21 and len(sizes) <= 5


def test_one_clip_that_fails_does_not_fail_its_neighbours(fake: FakeEndpoint, replica: DeploymentHandle) -> None:
    with held(fake, replica):
        good = [replica.transcribe.remote(clip(seconds)) for seconds in (2, 3)]
        bad = replica.transcribe.remote(clip(9, POISON))
    assert [response.result().text for response in good] == ["2", "3"]
    with pytest.raises(RuntimeError, match="a secret of the house"):
        bad.result()


def test_what_was_withdrawn_while_it_waited_is_never_decoded(fake: FakeEndpoint, replica: DeploymentHandle) -> None:
    with held(fake, replica):
        withdrawn, kept = replica.transcribe.remote(clip(2)), replica.transcribe.remote(clip(3))
        replica.describe.remote().result()
        withdrawn.cancel()
    assert kept.result().text == "3"
    assert fake.batches() == [[1], [3]]


def test_a_batch_is_measured_in_whole_seconds_rounded_up() -> None:
    assert batch_audio_s([Window(clip(1), 1.0), Window(clip(1), 1.5)]) == 3


def test_only_failures_in_a_row_make_a_replica_unhealthy(tmp_path: Path) -> None:
    replica = Transcriber(ServeConfig(model="fake"), lambda config: FakeEngine(config, tmp_path))
    good, bad = clip(1), clip(1, POISON)
    for one in (bad, bad, good, bad, bad):
        replica._thread.submit(replica._outcomes, [one]).result()
        replica.check_health()
    replica._thread.submit(replica._outcomes, [bad]).result()
    with pytest.raises(RuntimeError, match=f"last {MAX_FAILURES} batches"):
        replica.check_health()
