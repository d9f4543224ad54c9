"""Training over nodes that come and go."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.utterance import Utterance
from tests.manifests import write_beside
from tests.nodes.cluster import BIN, Node, Nodes
from tests.train.runs import Runs, planned
from train.checkpoints import data_log

pytestmark = [pytest.mark.ray, pytest.mark.weights]

PATIENCE_S = 240.0


def last_step(run: Path) -> int:
    """The newest step that the driver has written down."""
    path = run / "history.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((json.loads(line).get("step", 0) for line in lines), default=0)


class Training:
    """A run of the command on a cluster, of two workers where there are two nodes."""

    def __init__(self, cluster: Nodes, english_clips: list[Utterance], folder: Path) -> None:
        self._runs = Runs(folder, folder / "train.jsonl", english_clips, "builtin:tiny.en")
        self._clips = english_clips
        write_beside(self._runs.manifest, english_clips)
        self._settings = [
            "workers.cpus_each=2",  # of a node's three: two workers do not fit on one
            "workers.elastic={min: 1, max: 2, resize_interval_s: 5}",
            "run.data_log=true",
            "optim.max_steps=5000",  # more than there is time for
        ]
        self._run, self._log = folder / "nodes", folder / "train.log"
        (folder / "run.yaml").write_text("base: builtin:tiny.en\n")
        command: list[str | Path] = [
            BIN / "whisperfleet",
            "train",
            folder / "run.yaml",
            *self._runs.settings("nodes"),
            *self._settings,
        ]
        self._process = cluster.start(command, self._log)

    def wait(self, what: str, done: Callable[[], bool]) -> int:
        """Wait for something; return the newest step."""
        until = time.monotonic() + PATIENCE_S
        while not done():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, f"{what}: {self._log.read_text()}"
            time.sleep(0.2)
        return last_step(self._run)

    def steps(self, what: str, newest: int) -> int:
        """Wait for a step."""
        return self.wait(what, lambda: last_step(self._run) >= newest)

    def end(self, seen: int) -> list[data_log.DataLogLine]:
        """Press Ctrl-C; return what each step was, which is what the plan alone says."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(PATIENCE_S)
        lines = list(data_log.read(str(self._run / data_log.DATA_LOG)))
        assert [line.step for line in lines] == list(range(1, len(lines) + 1)) and len(lines) >= seen - 2
        plan = planned(self._runs.config("nodes", *self._settings, f"optim.max_steps={len(lines)}"))
        assert [sorted(line.ids) for line in lines] == [sorted(ids) for ids in plan]
        return lines


def workers(cluster: Nodes, node: Node) -> int:
    return cluster.processes(node, "ray::RayTrainWorker")


@pytest.mark.long
def test_a_node_is_taken_away_and_the_other_goes_on_with_what_was_planned(
    pool: Nodes, english_clips: list[Utterance], tmp_path: Path
) -> None:
    left, lost = pool.with_workers(2, cpus=3)
    training = Training(pool, english_clips, tmp_path)
    seen = training.steps("steps on two nodes", 2)
    assert [workers(pool, node) for node in (left, lost)] == [1, 1]
    pool.take_away(lost)
    seen = training.steps("steps on one node", seen + 2)
    training.end(seen)


@pytest.mark.long
def test_a_node_is_taken_away_and_another_comes_and_each_utterance_is_met_once_an_epoch(
    cluster: Nodes, english_clips: list[Utterance], tmp_path: Path
) -> None:
    """Two workers on two nodes, then one, then two again; and each step is what the plan alone says."""
    cluster.add(cpus=3)
    lost = cluster.add(cpus=3)
    training = Training(cluster, english_clips, tmp_path)
    seen = training.steps("steps on two nodes", 3)
    assert [workers(cluster, node) for node in cluster.nodes] == [1, 1]
    cluster.take_away(lost)
    seen = training.steps("steps on one node", seen + 3)
    new = cluster.add(cpus=3)
    training.wait("a worker on the new node", lambda: workers(cluster, new) == 1)
    seen = training.steps("steps on both", last_step(tmp_path / "nodes") + 4)
    epochs: defaultdict[int, list[str]] = defaultdict(list)
    for line in training.end(seen):
        epochs[line.epoch] += line.ids
    assert max(epochs) >= 1
    assert all(sorted(epochs[epoch]) == sorted(clip.id for clip in english_clips) for epoch in range(max(epochs)))
