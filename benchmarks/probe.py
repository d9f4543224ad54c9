"""Latency probe of an address, from a process of its own: a busy client would measure itself."""

from __future__ import annotations

import http.client
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

EVERY_S = 0.1
_BARE = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
TIMEOUT_S = 10.0


@contextmanager
def probing(url: str) -> Iterator[list[float]]:
    """Ask ``url`` ten times a second during the block, on a new connection each time, as a load balancer does.

    The list is filled at the end of the block: how long each answer took, in seconds, infinite where there was none.
    """
    words = [sys.executable, "-m", "benchmarks.probe", url]
    found: list[float] = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
        assert prober.stdout is not None
        prober.stdout.readline()  # the first has been asked
        yield found
        out, _ = prober.communicate("")
    found += [float("inf") if value is None else value for value in json.loads(out)]


@contextmanager
def bare() -> Iterator[str]:
    """Yield the address of a server that has nothing else to do: what it takes to answer is the machine's share."""
    with subprocess.Popen([sys.executable, "-c", _BARE], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/"
        finally:
            server.kill()


def asked(url: str) -> float | None:
    """Return how long an answer of 200 took, in seconds, None where there was none."""
    place, begun = urlsplit(url), time.perf_counter()
    connection = http.client.HTTPConnection(place.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", place.path)
        return time.perf_counter() - begun if connection.getresponse().status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def main() -> None:
    """Ask until the standard input ends, then print what was found as JSON."""
    found = [asked(sys.argv[1])]
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        found.append(asked(sys.argv[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
