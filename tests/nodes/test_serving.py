"""Serving from replicas on several nodes, one of which is taken away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from asr.utterance import Utterance
from tests.nodes.cluster import BIN, ROOT, Node, Nodes, nodes, possible

pytestmark = [pytest.mark.ray, pytest.mark.weights]

PATIENCE_S = 240.0
ANSWER_S = 60.0
INGRESS = "ray::ServeReplica:whisperfleet:Api"


@pytest.mark.long
def test_a_node_with_a_replica_is_taken_away_and_no_request_is_lost(
    pool: Nodes, english_clips: list[Utterance], tmp_path: Path
) -> None:
    """The clients do not ask twice: what was on the lost node is sent to the replica that is left.

    Nor do they wait for minutes: gRPC notices no node that vanishes, so Ray is asked who lives.
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
    serving = serve(cluster, log, f"cpus_each={cpus_each}", "ingresses=1")
    (ingress,) = [node for node in cluster.present if cluster.processes(node, INGRESS)]
    (lost,) = [node for node in cluster.present[1:] if node is not ingress]
    assert cluster.processes(lost, "ray::ServeReplica:whisperfleet:Transcriber") >= 1
    ask_and_take_away(cluster, lost, english_clips, clients, after)
    os.killpg(serving.pid, signal.SIGINT)
    assert serving.wait(PATIENCE_S) == 0, log.read_text()


@pytest.mark.long
def test_a_node_with_an_ingress_is_taken_away_and_who_asks_again_notices_nothing(
    english_clips: list[Utterance], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On a cluster there is an ingress on each node with replicas, behind the HAProxy of the head."""
    if not possible():
        pytest.skip("needs root and Linux' network namespaces (Debian's iproute2)")
    haproxy = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "serve" / "haproxy_start.py"),
    }
    log = tmp_path / "serve.log"
    with nodes(tmp_path_factory.mktemp("h"), haproxy) as cluster:
        cluster.add(cpus=0)
        cluster.with_workers(2, cpus=4)
        serving = serve(cluster, log, "cpus_each=1")
        assert [cluster.processes(node, INGRESS) for node in cluster.present] == [0, 1, 1]
        ask_and_take_away(cluster, cluster.present[-1], english_clips, clients=4, after=24, retries=2)
        os.killpg(serving.pid, signal.SIGINT)
        assert serving.wait(PATIENCE_S) == 0, log.read_text()


def serve(cluster: Nodes, log: Path, *settings: str) -> subprocess.Popen[bytes]:
    """Serve on the cluster, and come back when the endpoint is ready."""
    fixed = ["name=tiny", "replicas=2", "host=0.0.0.0", "exposed=true", "port=8000"]
    serving = cluster.start([BIN / "whisperfleet", "serve", "builtin:tiny.en", *fixed, *settings, "--json"], log)
    until = time.monotonic() + PATIENCE_S
    while '{"url"' not in log.read_text():
        assert serving.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.2)
    assert json.loads(log.read_text().strip().splitlines()[-1])["model"] == "tiny"
    return serving


def ask_and_take_away(
    cluster: Nodes, lost: Node, english_clips: list[Utterance], clients: int, after: int, retries: int = 0
) -> None:
    """Ask without pause, take a node away, and wait for so many answers after that. No client sees a failure."""
    flacs = [Path(str(clip.audio)).read_bytes() for clip in english_clips]
    answers: list[str] = []
    enough = threading.Event()

    def ask(number: int) -> None:
        with openai.OpenAI(
            base_url=f"http://{cluster.head.address}:8000/v1",
            api_key="none-needed",
            max_retries=retries,
            timeout=ANSWER_S,
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
