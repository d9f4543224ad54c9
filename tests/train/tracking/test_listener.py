from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from asr.config import resolve
from tests.train.evaluation.test_schedule import scored
from tests.train.tracking.test_history import at
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig
from train.events import Failed, Progress, Scored, Stalled
from train.tracking.history import NAME, History, evaluations, failures, rows
from train.tracking.listener import Listener, watching


class Tracker:
    """Takes figures until it breaks, and must not be told anything after that."""

    def __init__(self, breaks_at: int = 99) -> None:
        self.told: list[tuple[int, list[str]]] = []
        self.cuts: list[int] = []
        self.breaks_at, self.broken = breaks_at, False

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        assert not self.broken
        if step == self.breaks_at:
            self.broken = True
            raise ConnectionError("the server is away")
        self.told.append((step, sorted(figures)))

    def cut(self, last_step: int) -> None:
        self.cuts.append(last_step)

    def close(self) -> None:
        assert not self.broken


def test_what_a_run_posts_is_written_down_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker, seen, heard = Tracker(), list[Progress](), list[Scored]()
    listener = Listener(History(str(tmp_path)), [tracker], seen.append, heard.append)
    stalled = Stalled(1, 38, 63.2, "waiting for data", "feed.py:143 __iter__")
    others = (Failed(2, "OSError: gone"), stalled)
    for entry in (at(1), at(2), scored(2, 0.25), scored(2, 0.25), *others, at(3), at(2, 1)):
        listener.take(entry)
    listener.close()
    assert [(one.step, one.wer) for one in seen] == [(1, None), (2, None), (3, 0.25), (2, None)]
    assert [row["step"] for row in rows(tmp_path / NAME)] == [1, 2]
    assert failures(tmp_path / NAME) == []  # of a step that is made again
    rates = ["validation/cer", "validation/wer", "validation/wer_ortho"]
    assert [step for step, _ in tracker.told] == [1, 2, 2, 3, 2]
    assert tracker.told[2] == (2, rates)
    assert tracker.cuts == [1]
    assert heard == [scored(2, 0.25)]
    said = capsys.readouterr().err
    assert "the evaluation of step 2 failed, training goes on: OSError: gone" in said
    assert "worker 1: 63 s in step 38 so far: waiting for data; at feed.py:143 __iter__" in said


def test_a_tracker_that_breaks_stops_neither_the_run_nor_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, whole = Tracker(breaks_at=2), Tracker()
    listener = Listener(History(str(tmp_path)), [broken, whole])
    for step in (1, 2, 3):
        listener.take(at(step))
    listener.close()
    assert [step for step, _ in broken.told] == [1]
    assert [step for step, _ in whole.told] == [1, 2, 3]
    assert "Tracker is told no more: ConnectionError: the server is away" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_cluster")
def test_the_history_is_complete_when_the_run_is_over(tmp_path: Path) -> None:
    settings = ["base=none", "data.train=none.jsonl", f"run.folder={json.dumps(str(tmp_path))}", "run.name=first"]
    config = resolve(TrainConfig, None, settings).value
    run = RunFolder.of(config)
    for first in (1, 4):
        with watching(run, config) as (progress, history):
            assert history == tmp_path / "first" / NAME
            assert len(ray.get(progress.scored.remote())) == first // 4
            posts = [at(step, resumed_at=first - 1) for step in range(first, first + 3)]
            ray.get([progress.post.remote(post) for post in (*posts, scored(first, 0.5))])
    assert [row["step"] for row in rows(history) if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [one.step for one in evaluations(history)] == [1, 4]
    assert list((tmp_path / "first" / "tensorboard").glob("events.*"))


@pytest.mark.usefixtures("ray_cluster")
def test_a_disk_that_is_full_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["base=none", "data.train=none.jsonl", f"run.folder={json.dumps(str(tmp_path))}"]
    config = resolve(TrainConfig, None, settings).value

    def full(self: History, progress: Progress) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(History, "add_step", full)
    with pytest.raises(OSError, match="No space left"), watching(RunFolder.of(config), config) as (progress, _):
        ray.get(progress.post.remote(replace(at(1))))
