from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr.audio.sandbox import MEMORY_BYTES
from asr.io.confined_process import NONSENSE, Forker

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    made = Forker("asr.audio.sandbox_child", MEMORY_BYTES)
    yield made
    made.close()


def test_each_worker_is_a_new_process_and_the_one_before_is_gone(forker: Forker) -> None:
    first = forker.worker()
    assert forker.worker() is first and not first.gone()
    forker.over()
    assert forker.worker().pid != first.pid
    assert not Path(f"/proc/{first.pid}").exists()


def test_it_is_said_how_one_came_to_its_end(forker: Forker) -> None:
    assert forker.worker() and forker.how() == NONSENSE
    os.kill(forker.worker().pid, signal.SIGABRT)
    assert forker.how() == "ended with SIGABRT"
    assert not forker.worker().gone()


def test_one_that_died_while_it_waited_is_never_met(forker: Forker) -> None:
    first = forker.worker()
    os.kill(first.pid, signal.SIGKILL)
    assert first.gone(60.0)
    assert forker.worker().pid != first.pid


def test_all_end_with_what_forks_them() -> None:
    forker = Forker("asr.audio.sandbox_child", MEMORY_BYTES)
    worker = Path(f"/proc/{forker.worker().pid}/stat")
    forker.close()
    while worker.exists() and ") Z " not in worker.read_text():
        pass
    assert not forker.alive
