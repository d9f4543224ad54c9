"""A model as it is loaded: its URI, and the fingerprint by which it is known to be still the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asr.inference.model_info import ModelInfo

Role = Literal["stable", "candidate"]
"""Role of a version of a name: the one that answers, or the one that is tried on a share of the requests."""


@dataclass(frozen=True)
class Version:
    """An artifact, checkpoint or export with the fingerprint of its files.

    Without a fingerprint it stands for whatever lies there when it is loaded. With one, other files are refused: an
    artifact that was trained again at the same URI is another version.
    """

    artifact: str
    fingerprint: str = ""

    def __str__(self) -> str:
        return f"{self.artifact}@{self.fingerprint}" if self.fingerprint else self.artifact

    def is_met_by(self, other: Version) -> bool:
        """Return whether ``other`` is what is asked for."""
        return self.artifact == other.artifact and self.fingerprint in ("", other.fingerprint)


@dataclass(frozen=True)
class Described:
    """A version that a replica holds: its fingerprint, the facts that a request needs, and the bytes of its weights."""

    version: Version
    info: ModelInfo
    nbytes: int


@dataclass(frozen=True)
class ArtifactInfo:
    """A version that was verified, and a line about it for people."""

    version: Version
    summary: str

    def __str__(self) -> str:
        return f"{self.version.fingerprint}: {self.summary}"


@dataclass(frozen=True)
class Held:
    """Contents of a replica: its versions with their bytes, and the bytes of everything, shared bases counted once.

    ``node`` is the id of the node in Ray.
    """

    nbytes: dict[Version, int]
    total: int
    node: str = ""
