"""Clients that ask slowly, or have no key, cost the others nothing: attacks on a real endpoint behind HAProxy."""

from __future__ import annotations

import http.client
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from statistics import median
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serve.conftest import FakeEndpoint
from tests.serve.fakes import noise
from tests.serve.guarded import KEYS, Guarded
from tests.serve.test_cli import open_ports
from tests.speed import WAIT_S

pytestmark = pytest.mark.slow  # thousands of connections, and processes that may wait for a core

HEALTHY_S = 0.05
SOON_S = 5.0
PIECE = 100  # connections opened at once: more would wait for the kernel's queue
UPLOAD = (
    "POST /v1/audio/transcriptions HTTP/{version}\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b\r\n"
)


@contextmanager
def connected(
    address: tuple[str, int], count: int, data: str, source: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    """So many connections that have sent ``data`` and no more, unless they were refused."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        opened = []
        for number in range(count):
            with suppress(ConnectionError):  # also while it connects
                opened.append(stack.enter_context(socket.create_connection(address, SOON_S, (source, 0))))
                opened[-1].sendall(data.encode())
            if number % PIECE == 0:
                time.sleep(0.005)
        yield opened


def health_s(guarded: Guarded) -> float:
    """The median of twenty asks, each with a connection of its own: other work on the machine holds up some of them."""
    found = []
    for _ in range(20):
        begun = time.perf_counter()
        connection = http.client.HTTPConnection(*guarded.address, timeout=SOON_S)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        found.append(time.perf_counter() - begun)
        connection.close()
    return median(found)


def healthy_s(guarded: Guarded) -> float:
    """What that may be under attack, by what it is before."""
    return max(HEALTHY_S, 5 * health_s(guarded))


def transcribe(guarded: Guarded, key: str) -> httpx.Response:
    return httpx.post(
        f"{guarded.url}/v1/audio/transcriptions",
        headers={"Authorization": f"Bearer {key}"},
        data={"model": "fake"},
        files={"file": ("a.flac", noise(1.0))},
        timeout=30,
    )


def until_closed(raw: socket.socket) -> bytes:
    raw.settimeout(SOON_S)
    answer = b""
    while more := raw.recv(65536):
        answer += more
    return answer


# What one address may hold is less than the second.
@pytest.mark.parametrize(("count", "source"), [(4200, "127.0.0.1"), (6000, "127.0.0.2")])
def test_health_is_answered_beside_thousands_of_unfinished_request_heads(
    guarded: Guarded, count: int, source: str
) -> None:
    most_s = healthy_s(guarded)
    with connected(guarded.address, count, "GET /healthz HTTP/1.1\r\nHost: a\r\nX-A", source):
        assert health_s(guarded) < most_s


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_has_no_valid_key_holds_nothing(guarded: Guarded, version: str) -> None:
    most_s = healthy_s(guarded)
    with connected(guarded.address, 140, UPLOAD.format(version=version, key="a wrong one")) as opened:
        begun = time.monotonic()
        assert health_s(guarded) < most_s
        answers = [until_closed(one) for one in opened]
        assert time.monotonic() - begun < SOON_S
    assert all(answer.startswith(b"HTTP/1.1 401") and b'"invalid_api_key"' in answer for answer in answers)
    assert all(b"www-authenticate: Bearer" in answer and b"x-refusal" not in answer for answer in answers)


def test_nor_with_rays_own_proxy(fake: FakeEndpoint) -> None:
    place = urlsplit(fake.url)
    assert place.hostname and place.port
    asked = UPLOAD.format(version="1.0", key="a wrong one").replace("/v1", "/fake/v1")
    with connected((place.hostname, place.port), 140, asked) as opened:
        assert all(until_closed(one).startswith(b"HTTP/1.1 401") for one in opened)


def test_a_path_that_is_not_there_holds_nothing_either(guarded: Guarded) -> None:
    asked = UPLOAD.format(version="1.0", key="").replace("/v1/audio/transcriptions", "/nowhere")
    with connected(guarded.address, 1, asked) as (raw,):
        assert until_closed(raw).startswith(b"HTTP/1.1 404")


def test_who_sends_much_with_a_wrong_key_can_read_that_it_is_wrong(guarded: Guarded) -> None:
    """One in twenty-five waited for a minute, while HAProxy spliced uploads."""
    file, key = ("a.flac", bytes(20_000_000)), {"Authorization": "Bearer of nothing at all"}

    def status(_: int) -> int:
        url = f"{guarded.url}/v1/audio/transcriptions"
        return httpx.post(url, timeout=15, files={"file": file}, headers=key).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(status, range(40))) == {401}


def test_idle_uploads_of_one_key_leave_a_place_for_others(guarded: Guarded) -> None:
    most_s = healthy_s(guarded)
    with connected(guarded.address, 64, UPLOAD.format(version="1.1", key=KEYS["one"])) as opened:
        assert health_s(guarded) < most_s
        assert transcribe(guarded, KEYS["other"]).status_code == 200
        opened[0].settimeout(0.5)
        displaced = [one for one in opened if _answer_begun(one)]
        assert len(displaced) == 1
        assert until_closed(displaced[0]).startswith(b"HTTP/1.1 429")
    assert transcribe(guarded, KEYS["one"]).status_code == 200


def _answer_begun(raw: socket.socket) -> bool:
    raw.setblocking(False)
    try:
        return bool(raw.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize(("name", "status"), [("", 401), ("one", 403), ("keeper", 200)])
def test_metrics_name_key_holders_to_no_guest(guarded: Guarded, name: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {KEYS[name]}"} if name else {}
    answer = httpx.get(f"{guarded.url}/metrics", headers=headers, timeout=WAIT_S)
    assert answer.status_code == status
    assert ("whisperfleet_requests" in answer.text) == (status == 200)


def test_nobody_comes_in_past_haproxy(guarded: Guarded) -> None:
    def answers(port: int) -> bool:
        try:
            return "missing_api_key" in httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=10).text
        except httpx.HTTPError:
            return False

    outside = open_ports(guarded.pid)
    assert [port for port in outside if answers(port)] == [guarded.address[1]]


@pytest.mark.parametrize(("sent", "kept"), [("call-1", True), ("x" * 8000, False), ("two words", False)])
def test_a_request_id_is_a_word_and_not_thousands_of_characters(guarded: Guarded, sent: str, kept: bool) -> None:
    told = httpx.get(f"{guarded.url}/healthz", headers={"X-Request-ID": sent}, timeout=WAIT_S).headers["x-request-id"]
    assert told == sent if kept else 0 < len(told) <= 128 and " " not in told
