"""Serving from replicas on several nodes, one of which is taken away."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from asr.utterance import Utterance
from tests.nodes.cluster import BIN, Nodes

pytestmark = [pytest.mark.ray, pytest.mark.weights]

PATIENCE_S = 240.0
ANSWER_S = 60.0


@pytest.mark.long
def test_a_node_with_a_replica_is_taken_away_and_no_request_is_lost(
    pool: Nodes, english_clips: list[Utterance], tmp_path: Path
) -> None:
    """The clients do not ask twice: what was on the lost node is sent to the replica that is left.

    Nor do they wait for minutes, as they did by gRPC, which notices no node that vanishes.
    """
    pool.with_workers(2, cpus=3)  # the ingress and two replicas: none has room for all three
    serve_and_take_away(pool, english_clips, tmp_path, cpus_each=2, clients=2, after=6)


@pytest.mark.long
def test_one_is_taken_away_under_load(cluster: Nodes, english_clips: list[Utterance], tmp_path: Path) -> None:
    cluster.add(cpus=0)  # the controller and the proxy
    cluster.with_workers(2, cpus=2)
    serve_and_take_away(cluster, english_clips, tmp_path, cpus_each=1, clients=4, after=24)


def serve_and_take_away(
    cluster: Nodes, english_clips: list[Utterance], tmp_path: Path, cpus_each: int, clients: int, after: int
) -> None:
    """Serve, ask, take a node with a replica away, and wait for so many answers after that."""
    log = tmp_path / "serve.log"
    settings = ["name=tiny", "replicas=2", f"cpus_each={cpus_each}", "host=0.0.0.0", "exposed=true", "port=8000"]
    serving = cluster.start([BIN / "whisperfleet", "serve", "builtin:tiny.en", *settings, "--json"], log)
    until = time.monotonic() + PATIENCE_S
    while '{"url"' not in log.read_text():
        assert serving.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.2)
    assert json.loads(log.read_text().strip().splitlines()[-1])["model"] == "tiny"
    (ingress,) = [node for node in cluster.present if cluster.processes(node, "ray::ServeReplica:whisperfleet:Api")]
    (lost,) = [node for node in cluster.present[1:] if node is not ingress]
    assert cluster.processes(lost, "ray::ServeReplica:whisperfleet:Transcriber") >= 1

    flacs = [Path(str(clip.audio)).read_bytes() for clip in english_clips]
    answers: list[str] = []
    enough = threading.Event()

    def ask(number: int) -> None:
        with openai.OpenAI(
            base_url=f"http://{cluster.head.address}:8000/v1", api_key="none-needed", max_retries=0, timeout=ANSWER_S
        ) as client:
            while not enough.is_set():
                file = ("clip.flac", flacs[(number + len(answers)) % len(flacs)])
                answers.append(client.audio.transcriptions.create(model="tiny", file=file).text)

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask, number) for number in range(clients)]

        def wait_for(count: int) -> None:
            until = time.monotonic() + PATIENCE_S
            while len(answers) < count and not any(one.done() for one in asking) and time.monotonic() < until:
                time.sleep(0.1)

        wait_for(clients)
        cluster.take_away(lost)
        wait_for(len(answers) + after)
        enough.set()
        for one in asking:
            one.result()
    assert len(answers) >= clients + after and all(answers)
    os.killpg(serving.pid, signal.SIGINT)
    assert serving.wait(PATIENCE_S) == 0, log.read_text()
