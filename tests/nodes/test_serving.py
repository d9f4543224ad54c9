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

PATIENCE_S = 240.0
CLIENTS = 4
REQUESTS_AFTER = 24
ANSWER_S = 60.0


@pytest.mark.slow
def test_a_node_with_a_replica_is_taken_away_under_load_and_no_request_is_lost(
    cluster: Nodes, english_clips: list[Utterance], tmp_path: Path
) -> None:
    """The clients do not ask twice: what was on the lost node is sent to the replica that is left.

    Nor do they wait for minutes, as they did by gRPC, which notices no node that vanishes.
    """
    cluster.add(cpus=0)  # the controller and the proxy
    for _ in range(2):
        cluster.add(cpus=2)  # the ingress and two replicas: none has room for all three
    log = tmp_path / "serve.log"
    settings = ["name=tiny", "replicas=2", "cpus_each=1", "host=0.0.0.0", "exposed=true", "port=8000"]
    serving = cluster.start([BIN / "whisperfleet", "serve", "builtin:tiny.en", *settings, "--json"], log)
    until = time.monotonic() + PATIENCE_S
    while '{"url"' not in log.read_text():
        assert serving.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.2)
    assert json.loads(log.read_text().strip().splitlines()[-1])["model"] == "tiny"
    (ingress,) = [node for node in cluster.nodes if cluster.processes(node, "ray::ServeReplica:whisperfleet:Api")]
    (lost,) = [node for node in cluster.nodes[1:] if node is not ingress]
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

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, number) for number in range(CLIENTS)]

        def wait_for(count: int) -> None:
            until = time.monotonic() + PATIENCE_S
            while len(answers) < count and not any(one.done() for one in asking) and time.monotonic() < until:
                time.sleep(0.1)

        wait_for(CLIENTS)
        cluster.take_away(lost)
        wait_for(len(answers) + REQUESTS_AFTER)
        enough.set()
        for one in asking:
            one.result()
    assert len(answers) >= CLIENTS + REQUESTS_AFTER and all(answers)
    os.killpg(serving.pid, signal.SIGINT)
    assert serving.wait(PATIENCE_S) == 0, log.read_text()
