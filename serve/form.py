"""The form of ``POST /v1/audio/transcriptions``: read within limits, refused where it asks for what is not offered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.types import Message, Receive

from asr.config import suggestion
from serve.errors import ApiError

FORMATS = ("json", "text")
LATER_FORMATS = ("verbose_json", "srt", "vtt", "diarized_json")
MAX_FIELDS = 32
ENVELOPE_BYTES = 64 * 1024  # boundaries, part headers and the other fields around the file


@dataclass(frozen=True)
class TranscriptionForm:
    """What a client asks for. ``language`` is still as the client wrote it."""

    audio: bytes
    model: str
    language: str | None
    response_format: str


async def read_form(request: Request, max_upload_bytes: int) -> TranscriptionForm:
    """Read and check the form. Raises ApiError 413 as soon as too much has come in, 400 for anything wrong in it."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "send the audio as multipart/form-data with a part named 'file'", "not_multipart", "file")
    limit = max_upload_bytes + ENVELOPE_BYTES
    if int(request.headers.get("content-length") or 0) > limit:
        raise _too_large(max_upload_bytes)
    counted = Request(request.scope, _counted(request.receive, limit, max_upload_bytes))
    async with counted.form(max_files=1, max_fields=MAX_FIELDS) as parts:
        file = parts.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "there is no part named 'file' with a file in it", "missing_value", "file")
        if (file.size or 0) > max_upload_bytes:
            raise _too_large(max_upload_bytes)
        fields = _fields(parts)
        _refuse_what_is_not_offered(fields)
        return TranscriptionForm(await file.read(), fields["model"], fields.get("language"), _format(fields))


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


def _fields(parts: FormData) -> dict[str, str]:
    fields: dict[str, str] = {}
    for key, value in parts.multi_items():
        name = key.removesuffix("[]")
        if name == "file":
            continue
        if name not in _CHECKS:
            hint = suggestion(name, list(_CHECKS))
            raise ApiError(
                400, f"unknown parameter '{name}'" + (f", {hint}" if hint else ""), "unknown_parameter", name
            )
        if not isinstance(value, str) or (name in fields and not key.endswith("[]")):
            raise ApiError(400, f"'{name}' must be given once, as text", "invalid_value", name)
        fields[name] = value
    if not fields.get("model"):
        raise ApiError(400, "there is no 'model'", "missing_value", "model")
    return fields


def _refuse_what_is_not_offered(fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        if not _CHECKS[name](value):
            message = f"'{name}={value[:40]}' is not offered by this version"
            raise ApiError(400, message + _HINTS.get(name, ""), "unsupported_value", name)


def _format(fields: Mapping[str, str]) -> str:
    name = fields.get("response_format") or FORMATS[0]
    if name not in FORMATS:
        hint = suggestion(name, FORMATS) or f"choose one of {', '.join(FORMATS)}"
        raise ApiError(400, f"unknown response_format '{name}', {hint}", "invalid_value", "response_format")
    return name


def _is_zero(value: str) -> bool:
    try:
        return float(value) == 0.0
    except ValueError:
        return False


def _anything(value: str) -> bool:
    return True


def _nothing(value: str) -> bool:
    return not value


# Which values are honoured. A client that asks for more is told so: ignoring it would give answers to another question.
_CHECKS: dict[str, Callable[[str], bool]] = {
    "model": _anything,
    "language": _anything,
    "response_format": lambda value: value not in LATER_FORMATS,
    "temperature": _is_zero,
    "stream": lambda value: value.lower() in ("", "false", "0"),
    "prompt": _nothing,
    "timestamp_granularities": _nothing,
    "include": _nothing,
    "chunking_strategy": _nothing,
    "known_speaker_names": _nothing,
    "known_speaker_references": _nothing,
}
_HINTS = {
    "response_format": f": choose one of {', '.join(FORMATS)}",
    "temperature": ": decoding is greedy, send 0",
    "stream": ": send false",
}
