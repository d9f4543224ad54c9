"""The unit that travels from a data source to the loss, or to the word error rate."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr.parsed import JsonObject
from asr.sound import DEFAULT_CHOICE, SoundChoice


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of speech and its transcript.

    ``audio`` is a path, or the bytes of an audio file in any container that FFmpeg reads. ``start_s`` and ``end_s``
    cut a stretch out of a longer recording; ``end_s=None`` is the recording's end. ``duration_s`` is the length of
    that stretch where the source knows it. ``language`` is a Whisper code such as ``it``. ``sound`` says which track
    and channel of the file it is.
    """

    id: str
    audio: str | bytes
    text: str = ""
    duration_s: float | None = None
    language: str | None = None
    speaker: str | None = None
    start_s: float = 0.0
    end_s: float | None = None
    meta: JsonObject = field(default_factory=dict)
    sound: SoundChoice = DEFAULT_CHOICE


MAX_TOLD = 1000  # characters of what is said about a row: a hostile cell may have a hundred million


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that could not be used: kept, named and counted instead of dropped.

    What is told of it is cut, and can be written to any file: ``\\udcff`` stands for a byte of a name that is no text.
    """

    id: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        """Make id and detail fit for a table."""
        object.__setattr__(self, "id", _writable(self.id))
        object.__setattr__(self, "detail", _writable(self.detail))


def _writable(text: str) -> str:
    return text[:MAX_TOLD].encode("utf-8", "backslashreplace").decode()
