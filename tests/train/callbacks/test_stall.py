from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.speed import WAIT_S
from train.callbacks.stall import StallDetector
from train.events import Stalled


class FakeBoard:
    """Lets the test go on as soon as something was posted."""

    def __init__(self) -> None:
        self.posted: list[Stalled] = []
        self.heard = threading.Event()
        self.post = SimpleNamespace(remote=self._take)

    def _take(self, entry: Stalled) -> None:
        self.posted.append(entry)
        self.heard.set()

    def wait(self) -> Stalled:
        assert self.heard.wait(WAIT_S)
        self.heard.clear()
        return self.posted[-1]


@pytest.fixture
def trainer() -> Any:
    callbacks: list[Any] = []
    return SimpleNamespace(add_callback=callbacks.append, callbacks=callbacks)


def test_what_a_worker_is_at_where_it_stands_still(trainer: Any) -> None:
    progress, feed = FakeBoard(), SimpleNamespace(waiting=True)
    pulse = StallDetector(progress, 1, feed, step=4, patience_s=0.05)  # type: ignore[arg-type]
    with pulse.beating(trainer):
        assert trainer.callbacks == [pulse]
        first = progress.wait()
        assert (first.rank, first.step, first.doing) == (1, 5, "waiting for data")
        assert "test_stall.py" in first.where and "threading.py" in first.where
        assert progress.wait().seconds >= 2 * first.seconds  # again, but ever more seldom
        feed.waiting = False
        pulse.on_step_begin(None, None, None)
        assert progress.wait().doing == "computing, or waiting for other workers"
        pulse._longest_s = 0.0
        pulse.on_step_end(None, SimpleNamespace(global_step=5), None)
        pulse._longest_s = 0.0
        while (entry := progress.wait()).step == 5:
            pass
        assert entry.doing == "at a checkpoint"
        pulse.on_step_begin(None, None, None)


def test_a_step_as_slow_as_others_is_none_to_speak_of(trainer: Any) -> None:
    progress = FakeBoard()
    pulse = StallDetector(progress, 0, SimpleNamespace(waiting=True), patience_s=0.02)  # type: ignore[arg-type]
    pulse._longest_s = 1000.0
    with pulse.beating(trainer):
        assert not progress.heard.wait(0.2)


def test_in_rays_local_mode_nobody_listens(trainer: Any) -> None:
    with StallDetector(None, 0, SimpleNamespace(waiting=True)).beating(trainer):  # type: ignore[arg-type]
        assert trainer.callbacks == []
