"""Requests that two servers might cut apart differently: the ingress must count none that HAProxy did not hand it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from tests.serve.guarded import KEYS, Guarded
from tests.speed import WAIT_S

QUIET_S = 0.15
POST, GET = "POST /v1/models HTTP/1.1", "GET /v1/models HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"
VICTIM = {"Authorization": f"Bearer {KEYS['other']}"}
HTTP2 = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")

Attack = Callable[[bytes], bytes]


def head(line: str, *lines: str) -> bytes:
    return "\r\n".join([line, "Host: a", f"Authorization: Bearer {KEYS['one']}", *lines, "", ""]).encode("latin1")


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def short_length(*lines: str) -> Attack:
    """Chunked to who reads that header, else a body of four bytes and a second request."""
    return lambda second: head(POST, *lines, "Content-Length: 4") + chunk(second)


def long_length(*lines: str) -> Attack:
    """All body to who goes by its length, else an empty one and a second request."""
    return lambda second: head(POST, *lines, f"Content-Length: {len(second) + 5}") + b"0\r\n\r\n" + second


def length(written: str) -> Attack:
    return lambda second: head(POST, "Content-Length: " + written.format(len(second))) + second


def chunked(body: bytes) -> Attack:
    return lambda second: head(POST, CHUNKED) + body + second


# After any of these whoever goes on reading has to have guessed where a body ends.
UNCLEAR: dict[str, Attack] = {
    **{
        f"{name} {lengths.__name__}": lengths(*lines)
        for lengths in (short_length, long_length)
        for name, lines in {
            "both": (CHUNKED,),
            "tab": ("Transfer-Encoding:\tchunked",),
            "capitals": ("TRANSFER-ENCODING: CHUNKED",),
            "space": ("Transfer-Encoding : chunked",),
            "vertical tab": ("Transfer-Encoding: \x0bchunked",),
            "unknown": ("Transfer-Encoding: xchunked",),
            "quoted": ('Transfer-Encoding: "chunked"',),
            "parameter": ("Transfer-Encoding: chunked;q=1",),
            "zero": ("Transfer-Encoding: chunked\x00",),
            "carriage return": ("X: y\rTransfer-Encoding: chunked",),
            "line feed": ("X: y\nTransfer-Encoding: chunked",),
            "folded": ("Transfer-Encoding:\r\n chunked",),
            "identity after": (CHUNKED, "Transfer-Encoding: identity"),
            "identity before": ("Transfer-Encoding: identity", CHUNKED),
            "list": ("Transfer-Encoding: identity, chunked",),
            "list, chunked first": ("Transfer-Encoding: chunked, identity",),
            "gzip": ("Transfer-Encoding: gzip, chunked",),
        }.items()
    },
    **{f"length {text!r}": length(text) for text in ("{0}, 0", "+{0}", "-1", "0x{0:x}", "{0}.0", "{0} 0", "{0};")},
    "length by exponent": length("1e2"),
    "length too long": length("99999999999999999999"),
    "two lengths": lambda second: head(POST, "Content-Length: 0", f"Content-Length: {len(second)}") + second,
    "two lengths, 0 last": lambda second: head(POST, f"Content-Length: {len(second)}", "Content-Length: 0") + second,
    **{
        f"chunk {body!r}": chunked(body)
        for body in (b"0x0\r\n\r\n", b"+0\r\n\r\n", b"-0\r\n\r\n", b"0;\n\r\n", b"0\n\n", b"0\r\r\n", b"g\r\n")
    },
    "empty line before a chunk": chunked(b"\r\n0\r\n\r\n"),
    "chunk of 2 to the 64": chunked(b"10000000000000000\r\n\r\n"),
    "chunk longer than it says": chunked(b"3\r\nabcX\r\n0\r\n\r\n"),
    "chunks by line feeds": chunked(b"3\nabc\n0\n\n"),
    "length of a GET": lambda second: head(GET, f"Content-Length: {len(second)}") + second,
    "chunks of a GET": lambda second: head(GET, CHUNKED) + chunk(second),
    "length of the connection's": lambda second: (
        head(POST, "Connection: Content-Length", f"Content-Length: {len(second)}") + second
    ),
    "chunks of the connection's": lambda second: head(POST, "Connection: Transfer-Encoding", CHUNKED) + chunk(second),
    "HTTP/2 upgrade": lambda second: (
        head(POST, "Connection: Upgrade, HTTP2-Settings", *HTTP2, f"Content-Length: {len(second)}") + second
    ),
    "HTTP/2 at once": lambda second: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + second,
    "HTTP/0.9": lambda second: second.splitlines()[0].removesuffix(b" HTTP/1.1") + b"\r\n\r\n",
    "HTTP/0.9, named": lambda second: second.replace(b"HTTP/1.1", b"HTTP/0.9"),
    "another host's address": lambda second: second.replace(b"/v1", b"http://other/v1", 1),
    "two hosts": lambda second: second.replace(b"Host: a", b"Host: a\r\nHost: b"),
}

# These two requests are pipelined to everybody who reads the standard, or not: what matters is that both sides agree.
AGREED: dict[str, Attack] = {
    "underscore": short_length("Transfer_Encoding: chunked"),
    "folded into another": short_length("X: y\r\n Transfer-Encoding: chunked"),
    "space before the name": short_length(" Transfer-Encoding: chunked"),
    "chunk extension": chunked(b"0;a=b\r\n\r\n"),
    "chunk of many zeros": chunked(b"00000000000000000000\r\n\r\n"),
    "lengths in a trailer": chunked(b"0\r\nTransfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n"),
    "HTTP/2 upgrade without a body": lambda second: head(GET, "Connection: Upgrade, HTTP2-Settings", *HTTP2) + second,
    "tunnel": lambda second: head("CONNECT a:80 HTTP/1.1") + second,
    "expectation": lambda second: head(POST, "Expect: 100-continue, x", f"Content-Length: {len(second)}") + second,
}


@pytest.mark.parametrize("kind", ["unclear", "agreed"])
@pytest.mark.slow
def test_no_second_request_gets_in_behind_haproxys_back(guarded: Guarded, kind: str) -> None:
    attacks = UNCLEAR if kind == "unclear" else AGREED
    answers: dict[str, int] = {}
    for number, attack in enumerate(attacks.values()):
        name = f"{kind}-{number}-smuggled"
        second = head(f"GET /v1/models/{name} HTTP/1.1")
        answers[name] = sent(guarded, attack(second)).count(b"HTTP/1.1 ")
        victim = httpx.get(f"{guarded.url}/v1/models/victim-{name}", headers=VICTIM, timeout=WAIT_S)
        assert victim.status_code == 404
        assert f"victim-{name}'" in victim.text  # and not an answer to somebody else's
    counted = [path.removeprefix("/v1/models/") for path in paths(guarded) if kind in path]
    assert [name for name in counted if name.startswith("victim-")] == [f"victim-{name}" for name in answers]
    if kind == "unclear":
        assert [name for name in counted if name in answers] == []
    else:
        assert [name for name in counted if name in answers and answers[name] < 2] == []


def sent(guarded: Guarded, data: bytes) -> bytes:
    """Send it and return all answers, once there is silence."""
    answer = b""
    with socket.create_connection(guarded.address, timeout=QUIET_S) as raw, suppress(OSError):
        raw.sendall(data)
        while more := raw.recv(65536):
            answer += more
    return answer


def paths(guarded: Guarded) -> list[str]:
    time.sleep(QUIET_S)
    return [json.loads(line)["path"] for line in guarded.log.read_text().splitlines()]
