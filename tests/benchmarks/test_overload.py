"""What the overload benchmark offers, counts and measures, against a server that takes two at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.overload import figures, offer
from benchmarks.probe import bare, probing
from benchmarks.serving.speech import Spoken
from tests.speed import WAIT_S


class Handler(BaseHTTPRequestHandler):
    room = threading.Semaphore(2)
    leave = threading.Event()

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/healthz" else 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if not self.room.acquire(blocking=False):
            self.answer(429)
            return
        self.leave.wait(WAIT_S)
        self.answer(200)

    def answer(self, status: int) -> None:
        if status == 429:
            self.leave.set()
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.room, Handler.leave = threading.Semaphore(2), threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.medium
def test_requests_are_offered_whatever_becomes_of_them(url: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    found = asyncio.run(offer(url, [Spoken(tmp_path / "a", "a", 1.0)], per_s=100.0, seconds=0.05))
    assert found == {"200": 2, "429": 3}
    gone = asyncio.run(offer("http://127.0.0.1:1", [Spoken(tmp_path / "a", "a", 1.0)], per_s=100.0, seconds=0.02))
    assert gone == {"ClientConnectorError": 2}


@pytest.mark.medium
def test_health_is_asked_all_along_by_another_process(url: str) -> None:
    with probing(f"{url}/healthz") as found:
        pass
    assert found and all(0.0 < each < 10.0 for each in found)
    for gone in (f"{url}/nothing", "http://127.0.0.1:1/healthz"):
        with probing(gone) as none:
            pass
        assert set(none) == {float("inf")}


@pytest.mark.medium
def test_a_bare_server_answers_too() -> None:
    with bare() as url, probing(url) as found:
        pass
    assert found and max(found) < 10.0


def test_no_answer_is_no_figure() -> None:
    assert figures("a", [0.001] * 99 + [0.05]) == {"a_p50_ms": 1.0, "a_p99_ms": 50.0, "a_max_ms": 50.0}
    assert figures("a", [0.001] * 9 + [float("inf")])["a_max_ms"] == -1.0
