"""The multipart form that brings an upload: read within limits, and never more of it than they allow."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive

from asr.printable import printable
from asr.transcript import MAX_KEYWORDS
from serve.errors import ApiError
from serve.ingress.openai.parameters import Parameters, read_parameters

MAX_FIELDS = 32 + MAX_KEYWORDS
ENVELOPE_BYTES = 96 * 1024  # boundaries, part headers and the other fields around the file


@dataclass(frozen=True)
class Form:
    """An upload and its parameters."""

    audio: bytes
    parameters: Parameters


async def read_form(request: Request, max_upload_bytes: int) -> Form:
    """Read and check the form. Raises ApiError 413 as soon as too much has come in, 400 for anything wrong in it."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "send the audio as multipart/form-data with a part named 'file'", "not_multipart", "file")
    limit = max_upload_bytes + ENVELOPE_BYTES
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(max_upload_bytes)
    counted = Request(request.scope, _counted(request.receive, limit, max_upload_bytes))
    parts = await _parsed(counted)
    try:
        file = parts.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "there is no part named 'file' with a file in it", "missing_value", "file")
        if (file.size or 0) > max_upload_bytes:
            raise _too_large(max_upload_bytes)
        return Form(await file.read(), read_parameters(_texts(parts)))
    finally:
        await parts.close()


async def _parsed(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=MAX_FIELDS)
    except (MultiPartException, HTTPException) as error:  # the second is what the first becomes within an application
        reason = error.message if isinstance(error, MultiPartException) else error.detail
        raise ApiError(400, f"the form cannot be read: {reason}", "invalid_form") from None


def _counted(receive: Receive, limit: int, max_upload_bytes: int) -> Receive:
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(max_upload_bytes)
        return message

    return counted


def _too_large(max_upload_bytes: int) -> ApiError:
    return ApiError(413, f"the upload is over {max_upload_bytes:,} bytes", "too_large", "file")


def _texts(parts: FormData) -> list[tuple[str, str]]:
    texts = []
    for key, value in parts.multi_items():
        if isinstance(value, str):
            texts.append((key, value))
        elif key != "file":
            raise ApiError(400, f"'{printable(key)}' must be given as text", "invalid_value", key)
    return texts
