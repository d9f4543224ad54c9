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
from tests.nodes.cluster import BIN, Nodes
from tests.train.runs import Runs, planned
from train.run import ledger

PATIENCE_S = 240.0


def last_step(run: Path) -> int:
    """The newest step that the driver has written down."""
    path = run / "history.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((json.loads(line).get("step", 0) for line in lines), default=0)


@pytest.mark.slow
def test_a_node_is_taken_away_and_another_comes_and_each_utterance_is_met_once_an_epoch(
    cluster: Nodes, english_clips: list[Utterance], tmp_path: Path
) -> None:
    """Two workers on two nodes, then one, then two again; and each step is what the plan alone says."""
    runs = Runs(tmp_path, tmp_path / "train.jsonl", english_clips)
    write_beside(runs.manifest, english_clips)
    settings = [
        "workers.cpus_each=2",  # of a node's three: two workers do not fit on one
        "workers.elastic={min: 1, max: 2, look_every_s: 5}",
        "run.ledger=true",
        "optim.max_steps=5000",  # more than there is time for
    ]
    run, log = tmp_path / "nodes", tmp_path / "train.log"
    (tmp_path / "run.yaml").write_text("base: builtin:tiny.en\n")
    cluster.add(cpus=3)
    lost = cluster.add(cpus=3)
    command = [BIN / "whisperfleet", "train", tmp_path / "run.yaml", *runs.settings("nodes"), *settings]
    training = cluster.start(command, log)

    def wait(what: str, done: Callable[[], bool]) -> int:
        until = time.monotonic() + PATIENCE_S
        while not done():
            assert training.poll() is None, log.read_text()
            assert time.monotonic() < until, f"{what}: {log.read_text()}"
            time.sleep(0.2)
        return last_step(run)

    seen = wait("steps on two nodes", lambda: last_step(run) >= 3)
    assert [cluster.processes(node, "ray::RayTrainWorker") for node in cluster.nodes] == [1, 1]
    cluster.take_away(lost)
    seen = wait("steps on one node", lambda: last_step(run) >= seen + 3)
    new = cluster.add(cpus=3)
    wait("a worker on the new node", lambda: cluster.processes(new, "ray::RayTrainWorker") == 1)
    seen = wait("steps on both", lambda: last_step(run) >= seen + 4)
    os.killpg(training.pid, signal.SIGINT)
    training.wait(PATIENCE_S)

    lines = list(ledger.read(str(run / ledger.LEDGER)))
    assert [line.step for line in lines] == list(range(1, len(lines) + 1)) and len(lines) >= seen - 2
    plan = planned(runs.config("nodes", *settings, f"optim.max_steps={len(lines)}"))
    assert [sorted(line.ids) for line in lines] == [sorted(ids) for ids in plan]
    epochs = defaultdict(list)
    for line in lines:
        epochs[line.epoch] += line.ids
    assert max(epochs) >= 1
    assert all(sorted(epochs[epoch]) == sorted(clip.id for clip in english_clips) for epoch in range(max(epochs)))
