"""What a child of the sandbox answers, believed only as far as a child that is taken over cannot do harm with it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from asr.downmix import MAX_CHANNELS
from asr.errors import DataError
from asr.header import Header, Length
from asr.sound import SoundReport

MAX_DETAIL = 2000  # characters
MAX_WARNINGS = 100

_REASON = re.compile(r"[a-z][a-z_]{1,40}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_REPORT, _HEADER, _LENGTH = TypeAdapter(SoundReport), TypeAdapter(Header), TypeAdapter(Length | None)
Kind = TypeVar("Kind")


def found(answer: dict[str, Any]) -> Any:
    """Return what a child has found.

    Raises DataError as the child does, RuntimeError with the traceback of a bug, ValueError for what is no answer.
    """
    if "bug" in answer:
        raise RuntimeError(str(answer["bug"]))
    if "reason" in answer:
        reason, detail = answer["reason"], answer.get("detail")
        if not (isinstance(reason, str) and isinstance(detail, str) and _REASON.fullmatch(reason)):
            raise ValueError("no reason")
        raise DataError(reason, _plain(detail))
    if "found" not in answer:
        raise ValueError("no answer")
    return answer["found"]


def report_of(said: object) -> SoundReport:
    """Return a report. Raises ValueError for what is none."""
    report = _valid(_REPORT, said)
    if not (0 < report.channels <= MAX_CHANNELS and math.isfinite(report.damaged_s)):
        raise ValueError(f"{report.channels} channels, {report.damaged_s} s damaged")
    if not report.warnings:
        return report
    return replace(report, warnings=tuple(map(_plain, report.warnings[:MAX_WARNINGS])))


def header_of(said: object) -> Header:
    """Return a header. Raises ValueError for what is none."""
    header = _valid(_HEADER, said)
    if not (0 < header.channels <= MAX_CHANNELS and header.sample_rate > 0):
        raise ValueError(f"{header.channels} channels of {header.sample_rate} Hz")
    return replace(header, codec=_plain(header.codec))


def length_of(said: object) -> Length | None:
    """Return a length. Raises ValueError for what is none."""
    length = _valid(_LENGTH, said)
    if length is not None and not math.isfinite(length.seconds):
        raise ValueError(f"{length.seconds} s")
    return length


def _valid(kind: TypeAdapter[Kind], said: object) -> Kind:
    try:
        return kind.validate_python(said)
    except ValidationError as error:
        raise ValueError(str(error)) from None


def _plain(text: str) -> str:
    """Return a text that does nothing to a terminal or a log that it is shown in."""
    return _CONTROL.sub(" ", text[:MAX_DETAIL])
