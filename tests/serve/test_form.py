from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import Request

from serve.errors import ApiError
from serve.form import ENVELOPE_BYTES, TranscriptionForm, read_form

BOUNDARY = "cut-here"
GOOD = [("file", b"RIFF"), ("model", b"m")]


def body_of(parts: list[tuple[str, bytes]]) -> bytes:
    lines = []
    for name, content in parts:
        filename = '; filename="speech.wav"' if name == "file" else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        lines.append(head.encode() + content + b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


def read(parts: list[tuple[str, bytes]], max_bytes: int = 1000, content_type: str = "") -> TranscriptionForm:
    return asyncio.run(read_form(request(iter([body_of(parts)]), content_type=content_type), max_bytes))


def request(chunks: Iterator[bytes], content_type: str = "", length: int | None = None) -> Request:
    headers = [(b"content-type", (content_type or f"multipart/form-data; boundary={BOUNDARY}").encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))

    async def receive() -> dict[str, object]:
        chunk = next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_a_plain_request() -> None:
    assert read(GOOD) == TranscriptionForm(b"RIFF", "m", None, "json")


def test_what_asks_for_nothing_special_is_taken() -> None:
    extra = [("temperature", b"0.0"), ("stream", b"false"), ("response_format", b"text"), ("language", b"it")]
    assert read([*GOOD, *extra]) == TranscriptionForm(b"RIFF", "m", "it", "text")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("response_format", b"verbose_json"),
        ("response_format", b"srt"),
        ("temperature", b"0.2"),
        ("temperature", b"nan"),
        ("temperature", b"warm"),
        ("stream", b"true"),
        ("prompt", b"Digium"),
        ("timestamp_granularities[]", b"word"),
        ("include[]", b"logprobs"),
        ("chunking_strategy", b"auto"),
    ],
)
def test_what_is_not_offered_yet_is_refused_by_name(name: str, value: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        read([*GOOD, (name, value)])
    assert (raised.value.status, raised.value.code) == (400, "unsupported_value")
    assert raised.value.param == name.removesuffix("[]")


@pytest.mark.parametrize(
    ("parts", "code", "param"),
    [
        ([("model", b"m")], "missing_value", "file"),
        ([("file", b"RIFF")], "missing_value", "model"),
        ([*GOOD, ("langage", b"it")], "unknown_parameter", "langage"),
        ([*GOOD, ("language", b"it"), ("language", b"en")], "invalid_value", "language"),
        ([*GOOD, ("response_format", b"jsn")], "invalid_value", "response_format"),
    ],
)
def test_what_is_wrong_is_named(parts: list[tuple[str, bytes]], code: str, param: str) -> None:
    with pytest.raises(ApiError) as raised:
        read(parts)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, code, param)


def test_a_misspelt_parameter_is_met_with_the_nearest() -> None:
    with pytest.raises(ApiError, match="did you mean 'language'"):
        read([*GOOD, ("langage", b"it")])


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
