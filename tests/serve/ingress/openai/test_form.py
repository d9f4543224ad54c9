from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from fastapi import Request
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import ApiError
from serve.ingress.openai.form import ENVELOPE_BYTES, Form, read_form
from serve.ingress.openai.parameters import Parameters
from tests.speed import WAIT_S

BOUNDARY = "cut-here"
GOOD = [("file", b"RIFF"), ("model", b"m")]


def body_of(parts: list[tuple[str, bytes]]) -> bytes:
    lines = []
    for name, content in parts:
        filename = '; filename="speech.wav"' if name == "file" else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        lines.append(head.encode() + content + b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


def read(parts: list[tuple[str, bytes]], max_bytes: int = 1000, content_type: str = "") -> Form:
    return asyncio.run(read_form(request(iter([body_of(parts)]), content_type=content_type), max_bytes))


def request(chunks: Iterator[bytes], content_type: str = "", length: int | None = None) -> Request:
    headers = [(b"content-type", (content_type or f"multipart/form-data; boundary={BOUNDARY}").encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))

    async def receive() -> dict[str, object]:
        chunk = next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_the_file_and_what_is_asked_of_it() -> None:
    assert read(GOOD) == Form(b"RIFF", Parameters("m"))
    asked = [("language", b"it"), ("timestamp_granularities[]", b"word"), ("response_format", b"verbose_json")]
    assert read([*GOOD, *asked]) == Form(
        b"RIFF", Parameters("m", "it", response_format="verbose_json", granularities=frozenset({"word"}))
    )


@pytest.mark.parametrize(
    ("parts", "code", "param"),
    [
        ([("model", b"m")], "missing_value", "file"),
        ([("file", b"RIFF")], "missing_value", "model"),
        ([*GOOD, ("langage", b"it")], "unknown_parameter", "langage"),
        ([*GOOD, ("prompt", b"\xff\xfe <|endoftext|>")], "invalid_value", "prompt"),
    ],
)
def test_what_is_wrong_is_named(parts: list[tuple[str, bytes]], code: str, param: str) -> None:
    with pytest.raises(ApiError) as raised:
        read(parts)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, code, param)


def test_a_second_file_is_refused() -> None:
    with pytest.raises(ApiError, match="Too many files"):
        read([("file", b"RIFF"), *GOOD])


@pytest.mark.medium
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_form_is_read_or_refused_but_never_our_fault(data: st.DataObject) -> None:
    body = bytearray(body_of([*GOOD, ("language", b"it"), ("temperature", b"0.5")]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    try:
        form = asyncio.run(read_form(request(iter([bytes(body)])), 1000))
    except ApiError as error:
        assert error.status in (400, 413)
    else:
        assert len(form.audio) <= 1000


def test_json_is_no_form() -> None:
    with pytest.raises(ApiError) as raised:
        read(GOOD, content_type="application/json")
    assert raised.value.code == "not_multipart"


def test_a_file_over_the_limit_is_refused() -> None:
    assert read([("file", b"x" * 1000), ("model", b"m")]).audio == b"x" * 1000
    with pytest.raises(ApiError) as raised:
        read([("file", b"x" * 1001), ("model", b"m")])
    assert raised.value.status == 413


def test_an_announced_length_over_the_limit_is_refused_before_reading() -> None:
    def nothing_is_read() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield

    with pytest.raises(ApiError) as raised:
        asyncio.run(read_form(request(nothing_is_read(), length=2000 + ENVELOPE_BYTES), 1000))
    assert raised.value.status == 413


def test_an_endless_upload_is_cut_off_while_it_comes_in() -> None:
    read_bytes = 0

    def endless() -> Iterator[bytes]:
        nonlocal read_bytes
        yield body_of([("file", b"")])[: -len(f"\r\n--{BOUNDARY}--\r\n")]
        while True:
            read_bytes += 10_000
            yield b"x" * 10_000

    with pytest.raises(ApiError) as raised:
        asyncio.run(read_form(request(endless()), 1000))
    assert raised.value.status == 413
    assert read_bytes <= 1000 + ENVELOPE_BYTES + 10_000


TEXTS = ("http://127.0.0.1:{port}/a.flac", "file://{file}", "{file}")
PLAYLISTS = ("#EXTM3U\n#EXTINF:1,\n{0}\n", "ffconcat version 1.0\nfile '{0}'\n", "<MPD><BaseURL>{0}</BaseURL></MPD>")


@pytest.mark.slow
def test_nothing_is_fetched_and_no_file_of_the_servers_opened(
    endpoint: str, tmp_path: Path, flacs: list[bytes]
) -> None:
    (file := tmp_path / "a.flac").write_bytes(flacs[0])
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web,
        httpx.Client(base_url=endpoint, timeout=WAIT_S) as client,
    ):
        threading.Thread(target=web.serve_forever, daemon=True).start()
        places = [text.format(port=web.server_port, file=file) for text in TEXTS]

        def code(data: dict[str, str], files: Any) -> tuple[int, str]:
            answer = client.post("/v1/audio/transcriptions", data=data, files=files)
            return answer.status_code, answer.json()["error"]["code"]

        for place in places:
            assert code({"model": "tiny", "file": place}, {"x": ""}) == (400, "missing_value")
            assert code({"model": "tiny", "url": place}, {"file": ("a", flacs[0])}) == (400, "unknown_parameter")
            assert code({"model": "tiny"}, {"file": (place, b"not audio")}) == (400, "not_audio")
            for playlist in PLAYLISTS:
                assert code({"model": "tiny"}, {"file": ("a.m3u8", playlist.format(place).encode())})[0] == 400
        for model in (*places, str(tmp_path), "../../etc/passwd", "builtin:base", "openai/whisper-tiny", "s3://a/b"):
            assert code({"model": model}, {"file": ("a", flacs[0])}) == (404, "model_not_found")
        web.shutdown()
    assert asked == []


MB = 1_000_000


@pytest.mark.slow
def test_a_client_that_sends_far_too_much_can_read_that_it_did(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.audio.transcriptions.create(model="tiny", file=bytes(100 * MB))
    assert (raised.value.status_code, raised.value.code) == (413, "too_large")


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.slow
def test_so_can_one_that_speaks_plain_http(endpoint: str, connection: str, chunked: bool) -> None:
    place = urlsplit(endpoint)
    assert place.hostname and place.port
    begin, end = body_of([("file", b"?")]).split(b"?")
    blocks = [begin, *[bytes(MB)] * 100, end]
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {sum(map(len, blocks))}"
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n{length}\r\n"
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    with socket.create_connection((place.hostname, place.port), timeout=WAIT_S) as raw:
        raw.sendall(head.encode())
        for block in [*blocks, b""]:  # an empty chunk ends them
            raw.sendall(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        assert raw.recv(12) == b"HTTP/1.1 413"
