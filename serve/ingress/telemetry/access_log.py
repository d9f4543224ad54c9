"""The access log: one JSON line for each request, without the words unless they are asked for."""

from __future__ import annotations

import json
import logging
import os
import sys
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from asr.errors import UserError
from asr.io.unretryable import unretryable
from asr.printable import printable

logger = logging.getLogger("ray.serve")

MAX_ID_LENGTH = 128
MAX_PATH_LENGTH = 200


@dataclass(frozen=True)
class AccessLogEntry:
    """An answered request.

    ``audio_s`` is None where its audio was not read; ``version`` is ``stable`` or ``candidate``; ``warnings`` are those
    about its audio, None if there are none.
    """

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
    """Appends to ``path``: a file, ``-`` for standard error, or nothing for nowhere. ``ingress`` is in each line.

    Raises UserError where it cannot be opened. Later on requests are answered all the same: the first line that cannot
    be written is told in the endpoint's own log, and how many were lost when it can be again.
    """

    def __init__(self, path: str, log_words: bool = False, ingress: str = "") -> None:
        self._log_words = log_words
        self._ingress = {"ingress": ingress} if ingress else {}
        self._path = path
        self._lost = 0
        try:
            self._append("")
        except OSError as error:
            mistake = UserError(f"access_log={path} cannot be written: {error.strerror}")
            raise unretryable(error, path) or mistake from None

    def write(self, entry: AccessLogEntry) -> None:
        """Write a line. What was said goes into it only where that was asked for."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | self._ingress | asdict(entry)
        line["method"], line["path"] = printable(entry.method), printable(entry.path, MAX_PATH_LENGTH)
        line["seconds"] = round(entry.seconds, 4)
        if not self._log_words:
            del line["words"]
        try:
            self._append(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            if not self._lost:
                logger.error("access_log=%s cannot be written, requests are answered: %s", self._path, error.strerror)
            self._lost += 1
            return
        if self._lost:
            logger.error("access_log=%s can be written again, %d lines were lost", self._path, self._lost)
            self._lost = 0

    def _append(self, text: str) -> None:
        """Write in one call, so that processes do not mix their lines, to a file opened anew: it may be rotated."""
        if self._path == "-":
            print(text, end="", file=sys.stderr, flush=True)
        elif self._path:
            with Path(self._path).expanduser().open("ab+") as file:
                if self._lost and file.seek(0, os.SEEK_END):  # what was written last may have been cut
                    file.seek(-1, os.SEEK_END)
                    text = text if file.read(1) == b"\n" else f"\n{text}"
                file.write(text.encode())


def request_id(asked: str | None) -> str:
    """Return the client's own id for its request, cut and without what is not printable ASCII; else a new one."""
    return printable(asked[:MAX_ID_LENGTH], MAX_ID_LENGTH, ascii_only=True) if asked else uuid.uuid4().hex
