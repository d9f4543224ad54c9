"""The endpoint described for programs: what each path takes and answers, as an OpenAPI 3.1 document."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from asr.parsed import JsonObject
from serve.ingress.openai import schemas
from serve.ingress.openai.fields import LISTS, Fields
from serve.models.rollout import RolloutRequest

_REFERENCE = "#/components/schemas/{model}"
_FORM = "Form"

_REFUSED = {
    400: "A field is invalid, or the audio cannot be used; `param` names the field.",
    401: "No API key, or none that is known.",
    403: "The key may not do this.",
    404: "There is none of this name.",
    408: "The upload stood still.",
    409: "Another change is under way.",
    413: "The upload is over the limit.",
    415: "Another content type is wanted.",
    429: "The endpoint or the key's share is full: come again after `Retry-After` seconds.",
    500: "A fault of ours, which was logged.",
    503: "No replica answers, or the endpoint is shutting down: come again after `Retry-After` seconds.",
    504: "It took longer than `request_timeout_s`.",
}


def answers(model: type | None, *refusals: int, media_type: str = "application/json") -> JsonObject:
    """Return what a route's decorator is told of its answers: the good one, those of ``refusals``, and any other."""
    good: JsonObject = {"model": model} if model else {"content": {media_type: {"schema": {"type": "string"}}}}
    refused = {status: {"model": schemas.Error, "description": _REFUSED[status]} for status in refusals}
    other = {"model": schemas.Error, "description": "Any other fault."}
    return {"response_model": None, "responses": {200: good, **refused, "default": other}}


def _transcribed() -> JsonObject:
    told = answers(None, 400, 401, 404, 408, 413, 429, 500, 503, 504)
    whole = [{"$ref": _REFERENCE.format(model=one)} for one in ("Transcription", "VerboseTranscription")]
    kinds = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/vtt", "text/event-stream")}
    told["responses"][200] = {
        "description": "What was said, in the shape that `response_format` names. With `stream` server-sent events: "
        "`transcript.text.delta` for each stretch of words, `transcript.text.done` with all of it, or `error`.",
        "content": {"application/json": {"schema": {"anyOf": whole}}} | kinds,
        "headers": {
            "x-audio-warnings": {"description": "Warnings about the audio.", "schema": {"type": "string"}},
            "x-model-version": {"description": "Which version answered.", "schema": {"type": "string"}},
        },
    }
    form = {"schema": {"$ref": _REFERENCE.format(model=_FORM)}}
    told["openapi_extra"] = {"requestBody": {"required": True, "content": {"multipart/form-data": form}}}
    return told


TRANSCRIBED = _transcribed()
ORDERED = answers(None, 400, 401, 403, 404, 409, 413, 415, 503, media_type="application/x-ndjson") | {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="RolloutRequest")}}},
        }
    }
}


def document(app: FastAPI) -> JsonObject:
    """Return the OpenAPI document of an application, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> JsonObject:
    about = "OpenAI's audio API, and what this endpoint has beside it. Where keys are asked for, send one as a bearer."
    found = get_openapi(title=app.title, version=app.version, description=about, routes=app.routes)
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (Fields, "validation"),
        (RolloutRequest, "validation"),
        (schemas.Transcription, "validation"),
        (schemas.VerboseTranscription, "validation"),
    ]
    _, definitions = models_json_schema(wanted, ref_template=_REFERENCE)
    components = found["components"]["schemas"] | definitions["$defs"]
    components[_FORM] = _form(components.pop("Fields"))
    found["components"]["schemas"] = components
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{}, {"key": []}]
    return found


def _form(fields: JsonObject) -> JsonObject:
    """Return the schema of the whole form: the file and the fields, lists under the names that clients give them."""
    file = {"type": "string", "format": "binary", "description": "A recording, or a video with sound."}
    named = {f"{name}[]" if name in LISTS else name: schema for name, schema in fields["properties"].items()}
    return {**fields, "title": _FORM, "properties": {"file": file, **named}, "required": ["file", *fields["required"]]}
