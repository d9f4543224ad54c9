"""One endpoint, described in one place: the model, where it listens, what it may use and what a request may cost."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, model_validator

from asr import storage
from asr.config import Section
from asr.features import WINDOW_S
from cluster.resources import threads_each


class ServeConfig(Section):
    """Everything about one transcription endpoint."""

    model: str
    """What to serve: an artifact's folder, a hub id, a local checkpoint, or builtin:base."""
    name: str = ""
    """What clients call the model; see ``public_name`` for what they call it without."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""
    exposed: bool = False
    """Whether ``host`` may be reachable from outside. Nothing here asks for a key: put a gateway that does in front."""
    replicas: int = Field(1, ge=1)
    """Copies of the model, each of which forms its own batches."""
    cpus_each: int = Field(0, ge=0)
    """CPU threads of a replica; 0 shares all cores of this machine, or takes 4 beside a GPU."""
    gpu: bool = False
    """Whether each replica has a GPU, on which the model runs in fp16."""
    max_batch_audio_s: float = Field(240.0, ge=WINDOW_S)
    """Audio in one batch, in seconds as the encoder sees them: 30 a window, unless trained for the short context."""
    batch_wait_s: float = Field(0.02, ge=0.0, le=5.0)
    """How long an idle replica waits for more audio before it begins; a busy one collects while it decodes."""
    max_upload_bytes: int = Field(25 * 1024 * 1024, gt=0)
    """Size of an uploaded file; the default is OpenAI's limit."""
    max_audio_s: float = Field(1800.0, gt=0.0)
    """Length of the audio in a request, once decoded."""
    max_queued: int = Field(64, ge=1)
    """Requests in the house at once, uploading, waiting or being decoded. One more is answered 429 with Retry-After."""
    request_timeout_s: float = Field(600.0, gt=0.0)
    """From the beginning of the upload to the answer; then 504, and what was not begun is dropped."""

    @property
    def public_name(self) -> str:
        """What clients call the model: ``name``, else the hub id, the folder's name, or an artifact's run."""
        if self.name:
            return self.name
        place = self.model
        if not storage.is_remote(place):
            folder = Path(place).expanduser()
            if not folder.is_dir():
                return place  # a hub id
            place = str(folder.resolve())
        name = storage.name_of(place)
        return storage.name_of(storage.parent(place)) if name == "artifact" else name

    @property
    def threads(self) -> int:
        """CPU threads of one replica."""
        return threads_each(self.cpus_each, self.gpu, self.replicas)

    @model_validator(mode="after")
    def _loopback_unless_exposed(self) -> ServeConfig:
        if not self.exposed and not _is_loopback(self.host):
            raise ValueError(
                f"host={self.host} can be reached from outside, and the endpoint asks nobody for a key: "
                "put a gateway in front and say exposed=true"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
