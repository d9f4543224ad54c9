"""Answers of a sandbox child, believed only as far as a child that is taken over cannot do harm with them."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from asr.audio.container import SOURCE_RATES
from asr.audio.probe import Header, Length
from asr.audio.track.downmix import MAX_CHANNELS, SAMPLE_RATE
from asr.errors import DataError
from asr.parsed import JsonObject
from asr.printable import printable
from asr.sound import EACH, NAMED, SoundReport, is_index

DIED = "decoder_died"
MAX_DETAIL = 2000  # characters
MAX_WARNINGS, MAX_WARNING = 100, 500
MAX_BUG = 6000  # of a traceback, from its end
MAX_TRACKS = 10_000  # FFmpeg reads a thousand
LONGEST_S = 1e9

_REASON = re.compile(r"[a-z][a-z_]{1,40}")
_log = logging.getLogger(__name__)

_REPORT, _HEADER, _LENGTH = TypeAdapter(SoundReport), TypeAdapter(Header), TypeAdapter(Length | None)
Kind = TypeVar("Kind")


def answers_of(message: JsonObject, tasks: int) -> list[JsonObject]:
    """Return the answers to so many tasks. Raises ValueError where there are more or less, or one is none."""
    answers = message.get("answers")
    if not (isinstance(answers, list) and len(answers) == tasks and all(isinstance(each, dict) for each in answers)):
        raise ValueError("no answers")
    return answers


def found(answer: JsonObject, place: str) -> object:
    """Return what a child has found in the file of a ``place``.

    Raises DataError as the child does, and for a bug of ours, whose traceback is in the log then: whoever takes a child
    over can say that there is one. ValueError for what is no answer.
    """
    if "bug" in answer:
        _log.error("%s: a bug of ours met in decoding: %s", printable(place, MAX_DETAIL), _one_line(answer["bug"]))
        raise DataError(DIED, f"{place}: decoding failed with a bug of ours, which is in the log")
    if "reason" in answer:
        reason, detail = answer["reason"], answer.get("detail")
        if not (isinstance(reason, str) and isinstance(detail, str) and _REASON.fullmatch(reason)):
            raise ValueError("no reason")
        raise DataError(reason, printable(detail, MAX_DETAIL))
    if "found" not in answer:
        raise ValueError("no answer")
    return answer["found"]


def report_of(said: object) -> SoundReport:
    """Return a report. Raises ValueError for what is none."""
    report = _valid(_REPORT, said)
    if not (0 < report.channels <= MAX_CHANNELS and 0 <= report.track < report.tracks <= MAX_TRACKS):
        raise ValueError(f"track {report.track} of {report.tracks}, {report.channels} channels")
    if report.channel == EACH or not (report.channel in NAMED or is_index(report.channel)):
        raise ValueError("no channel")
    if not 0 <= report.damaged_s <= report.samples / SAMPLE_RATE + 0.001:  # it is rounded
        raise ValueError(f"{report.damaged_s} s damaged")
    if not report.warnings:
        return report
    warnings = tuple(printable(each, MAX_WARNING) for each in report.warnings[:MAX_WARNINGS])
    return replace(report, warnings=warnings)


def header_of(said: object) -> Header:
    """Return a header. Raises ValueError for what is none."""
    header = _valid(_HEADER, said)
    if not (0 < header.channels <= MAX_CHANNELS and header.sample_rate in SOURCE_RATES):
        raise ValueError(f"{header.channels} channels of {header.sample_rate} Hz")
    return replace(header, codec=printable(header.codec))


def length_of(said: object) -> Length | None:
    """Return a length; one that no recording has says nothing. Raises ValueError for what is none."""
    length = _valid(_LENGTH, said)
    if length is not None and not math.isfinite(length.seconds):
        raise ValueError(f"{length.seconds} s")
    return length if length is not None and 0 <= length.seconds <= LONGEST_S else None


def _valid(kind: TypeAdapter[Kind], said: object) -> Kind:
    try:
        return kind.validate_python(said)
    except ValidationError as error:
        raise ValueError(str(error)) from None


def _one_line(traceback: object) -> str:
    """Return the end of a traceback as one line: a second line could be anybody's."""
    return " | ".join(printable(line, MAX_BUG) for line in str(traceback)[-MAX_BUG:].splitlines())
