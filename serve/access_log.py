"""The access log: one JSON line for each request, without the words unless they are asked for."""

from __future__ import annotations

import json
import re
import sys
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from asr.errors import UserError

MAX_ID_LENGTH = 128
_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True)
class Entry:
    """One request as it was answered. ``audio_s`` is None where its audio was not read; ``version`` is ``stable`` or
    ``candidate``; ``warnings`` are those about its sound, None where there are none."""

    request_id: str
    method: str
    path: str
    status: int
    seconds: float
    model: str | None = None
    version: str | None = None
    key: str | None = None
    audio_s: float | None = None
    warnings: tuple[str, ...] | None = None
    words: str | None = None


class AccessLog:
    """Appends to ``place``: a file, ``-`` for standard error, or nothing for nowhere. Raises UserError."""

    def __init__(self, place: str, log_words: bool = False) -> None:
        self._log_words = log_words
        self._place = place
        self._append("")

    def write(self, entry: Entry) -> None:
        """Write a line. What was said goes into it only where that was asked for."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | asdict(entry)
        line["seconds"] = round(entry.seconds, 4)
        if not self._log_words:
            del line["words"]
        self._append(json.dumps(line, ensure_ascii=False) + "\n")

    def _append(self, text: str) -> None:
        """Write in one call, so that processes do not mix their lines, to a file opened anew: it may be rotated."""
        if self._place == "-":
            print(text, end="", file=sys.stderr, flush=True)
        elif self._place:
            try:
                with Path(self._place).expanduser().open("a", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise UserError(f"access_log={self._place} cannot be written: {error.strerror}") from None


def request_id(asked: str | None) -> str:
    """Return the client's own id for its request, cut and without what is not printable ASCII; else a new one."""
    return _UNPRINTABLE.sub("?", asked[:MAX_ID_LENGTH]) if asked else uuid.uuid4().hex
