"""Configuration of one endpoint: the model, the address it listens on, its resources and the limits of a request."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from asr.config import Section
from asr.io import storage
from asr.models.export_formats import EngineChoice
from asr.models.processor import LONGEST_WINDOW_S
from asr.places import ModelPlace, Place
from cluster.resources import threads_each

GB = 1e9  # bytes
MAX_DAMAGED_SHARE = 0.5  # past it a file is rather another one than a damaged one


class _Range(Section):
    """A least and a most number; a number alone is both."""

    min: int
    max: int

    @model_validator(mode="before")
    @classmethod
    def _from_a_number(cls, value: object) -> object:
        return {"min": value, "max": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max={self.max} is below min={self.min}")
        return self


class Replicas(_Range):
    """Number of replicas of the model. ``replicas: 2`` is short for two that stay two."""

    min: int = Field(1, ge=1)
    """Replicas that are always there."""
    max: int = Field(1, ge=1)
    """Most replicas, reached while more audio is queued than two batches for each."""
    up_after_s: float = Field(10.0, ge=0.0)
    """Seconds for which too much audio has to be queued before a replica is added."""
    down_after_s: float = Field(300.0, ge=0.0)
    """Seconds for which the queue has to be short enough for fewer replicas before one is ended."""


class Ingresses(_Range):
    """Number of ingresses, which take requests in. ``ingresses: 2`` is short for two that stay two."""

    min: int = Field(0, ge=0)
    """Ingresses that are always there; 0: one."""
    max: int = Field(0, ge=0)
    """Most ingresses, reached while they are busy more than 60 % of the time. 0: one on each node with
    replicas, where two or more have a core for it beside one."""


class ServeConfig(Section):
    """Everything about one transcription endpoint."""

    model: ModelPlace = ""
    """The model to serve: an artifact's folder, a hub id, a local checkpoint, or builtin:base."""
    name: str = ""
    """The clients' name of the model; by default its hub id, the name of its folder, or of an artifact's run."""
    models: dict[str, ModelPlace] = Field(default_factory=dict)
    """More to serve, or all of it: what clients call each, and what it is. The first is the default, ``model`` before
    all; the others are loaded when they are asked for."""
    memory_gb: float = Field(0.0, ge=0.0)
    """Memory for the weights of the models that a replica holds at once; beyond it the least recently used is unloaded.
    0 sets no bound."""
    share_bases: bool = False
    """Keep adapters of one base as adapters, so that they share its weights and batches on the torch engine.
    Without, each is merged into weights of its own, which decodes it faster."""
    registry: Place = ""
    """A JSON file, or its address, that keeps what was promoted, so that it outlives the endpoint. Without, an endpoint
    that starts anew begins with what is configured."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""
    keys: Place = ""
    """API keys: a YAML file, or ``env:NAME`` for an environment variable that holds the same. Without,
    nobody is asked for a key."""
    exposed: bool = False
    """Allow a ``host`` that is reachable from outside without ``keys``: put a gateway that asks for them in front."""
    engine: EngineChoice = "auto"
    """The engine that decodes; ``auto`` takes the faster one that can serve the model."""
    replicas: Replicas = Replicas()
    """Copies of the model, each of which forms its own batches."""
    ingresses: Ingresses = Ingresses()
    """Processes that take requests in, cut them and hand them to the replicas; each takes a CPU."""
    cpus_each: int = Field(0, ge=0)
    """CPU threads of a replica; 0 shares all cores of this machine, or takes 4 beside a GPU."""
    gpu: float = Field(0.0, ge=0.0, le=1.0)
    """Share of a GPU that each replica takes, on which the model runs in fp16; 0 has it run on the CPU."""
    max_batch_audio_s: float = Field(240.0, ge=LONGEST_WINDOW_S)
    """Audio in one batch, in seconds as the encoder sees them: 30 a window, unless trained for the short context."""
    batch_wait_s: float = Field(0.0, ge=0.0, le=5.0)
    """Seconds an idle replica waits for more audio before it begins, for fuller batches and later answers; a busy one
    collects while it decodes."""
    max_upload_bytes: int = Field(25 * 1024 * 1024, gt=0)
    """Size of an uploaded file; the default is OpenAI's limit."""
    min_upload_bytes_per_s: int = Field(4096, ge=1)
    """Least speed of an upload. One that is 20 s late is answered 408; a fast beginning excuses no pause later."""
    max_audio_s: float = Field(10_800.0, gt=0.0)
    """Length of the audio in a request, once decoded."""
    max_damaged_share: float = Field(MAX_DAMAGED_SHARE, ge=0.0, le=1.0)
    """Share of a request's audio that may be damaged: silence stands in its place, and the answer says so. 0 refuses
    every damaged file."""
    max_queued: int = Field(64, ge=1)
    """Requests in flight at once, uploading, waiting or being decoded. One more takes the place of one of the key
    that holds most, if that is more than its share; else it is answered 429 with Retry-After."""
    max_queued_audio_s: float = Field(14_400.0, gt=0.0)
    """Audio of all requests that is not transcribed yet, in seconds as the encoder sees them. What would exceed it is
    answered 429, with Retry-After from the measured speed, but for a key within its share; a single request of a key is
    taken in whatever its length."""
    max_decoded_bytes: int = Field(1 << 30, gt=0)
    """Memory of all requests' uploads and decoded samples together: 64,000 bytes a second, digital silence none. Past
    it the largest that is being decoded is answered 429, but for a key within its share; a single request is taken in
    whatever its length."""
    request_timeout_s: float = Field(600.0, gt=0.0)
    """From the beginning of the upload to the answer; then 504, and what was not begun is dropped. Of a stream, to its
    first words and then from words to words: a long recording may take as long as it takes."""
    access_log: Place = ""
    """A file that gets one JSON line for each request, or ``-`` for standard error; without, there is none."""
    log_words: bool = False
    """Write transcripts into the access log."""

    @property
    def public_name(self) -> str:
        """The clients' name of the default model: ``name``, else hub id, the folder's name, or an artifact's run."""
        if not self.model:
            return next(iter(self.models))
        if self.name:
            return self.name
        uri = self.model
        if not storage.is_remote(uri):
            folder = Path(uri).expanduser()
            if not folder.is_dir():
                return uri  # a hub id
            uri = str(folder.resolve())
        name = storage.name_of(uri)
        return storage.name_of(storage.parent(uri)) if name == "artifact" else name

    @property
    def artifacts(self) -> dict[str, str]:
        """All models by the names that clients use, the default first."""
        return ({self.public_name: self.model} if self.model else {}) | self.models

    def narrowed(self, artifact: str) -> ServeConfig:
        """Return the same for this one model, under the name that it would have."""
        return self.model_copy(update={"model": artifact, "name": "", "models": {}})

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device that a replica computes on."""
        return "cuda" if self.gpu else "cpu"

    @property
    def threads(self) -> int:
        """CPU threads of one replica."""
        return threads_each(self.cpus_each, self.gpu > 0, self.replicas.max)

    @model_validator(mode="after")
    def _some_model_under_each_name(self) -> ServeConfig:
        if not self.artifacts:
            raise ValueError("there is no model: name one, or several in models")
        if self.name and not self.model:
            raise ValueError(f"name={self.name} is for model, and there are only models, which have names")
        if not all(self.artifacts):
            raise ValueError("a model in models has an empty name")
        if empty := [name for name, artifact in self.models.items() if not artifact]:
            raise ValueError(f"models.{empty[0]} is empty")
        if self.model and self.public_name in self.models:
            raise ValueError(f"models.{self.public_name} has the name of model={self.model}")
        if self.share_bases and self.engine not in ("auto", "torch"):
            raise ValueError(f"share_bases needs engine=torch or auto: {self.engine} has no adapters")
        return self

    @model_validator(mode="after")
    def _loopback_unless_exposed(self) -> ServeConfig:
        if not self.keys and not self.exposed and not is_loopback(self.host):
            raise ValueError(
                f"host={self.host} can be reached from outside, and the endpoint asks nobody for a key: "
                "name a file of keys=, or put a gateway in front and say exposed=true"
            )
        return self


def is_loopback(host: str) -> bool:
    """Return whether a name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
