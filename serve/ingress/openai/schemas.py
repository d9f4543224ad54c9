"""Schemas of the endpoint's answers for its OpenAPI document; a test checks real answers against them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """Base of what is answered: every field is named, and a docstring under it says what it is."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Fault(Shape):
    """An error, in OpenAI's terms."""

    message: str
    """One line for people."""
    type: str
    """`invalid_request_error`, `authentication_error`, `not_found_error`, `rate_limit_error` or `server_error`."""
    param: str | None
    """The field at fault."""
    code: str
    """For programs: `unknown_parameter`, `queue_full`, `too_large` ..."""


class Error(Shape):
    """Every answer but a good one. 429 and 503 come with `Retry-After`, 401 with `WWW-Authenticate`."""

    error: Fault


class Duration(Shape):
    """Billed length of the audio, in begun seconds."""

    type: Literal["duration"]
    seconds: int


class Transcription(Shape):
    """The answer with `response_format=json`."""

    text: str
    usage: Duration


class Word(Shape):
    """A word and when it was said, in seconds."""

    word: str
    start: float
    end: float
    channel: int | None = None
    """There with `channel=each` alone."""


class Segment(Shape):
    """A stretch of speech, its times in seconds, and how sure the model was."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    channel: int | None = None
    """There with `channel=each` alone."""


class Audio(Shape):
    """The track and channel of the file that were transcribed."""

    track: int
    tracks: int
    channel: str
    channels: int
    damaged_s: float


class VerboseTranscription(Shape):
    """The answer with `response_format=verbose_json`."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: list[Segment] | None = None
    words: list[Word] | None = None
    usage: Duration
    audio: Audio | None = None
    warnings: list[str] | None = None
    """Warnings about the audio; also in the header `x-audio-warnings`."""


class Model(Shape):
    """A model that requests may name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    languages: list[str] | None = None
    """Codes that it can be told; none: any. Ours, as `cannot` is; both are left out where they are not known yet."""
    cannot: list[str] | None = None
    """What is refused: `translation`, `prompt`, `keywords`, `temperature`, `language detection` ..."""


class Models(Shape):
    """A list of models."""

    object: Literal["list"]
    data: list[Model]


class Status(Shape):
    """Health of the endpoint: `ok`, or `ready`."""

    status: str


class State(Shape):
    """State of one version of a name, and what replicas hold of it."""

    name: str
    state: Literal["stable", "candidate", "previous"]
    share: float
    artifact: str
    fingerprint: str | None
    loaded: int
    nbytes: int | None
    requests: int
    in_flight: int
    last_used: float | None


class States(Shape):
    """State of all models, for an admin."""

    models: list[State]
    replicas: int
    nbytes: int
    memory_gb: float | None


class Target(Shape):
    """An ingress for Prometheus' HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]


class Document(BaseModel):
    """An OpenAPI 3.1 document."""

    openapi: str
