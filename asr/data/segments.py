"""Segments of an utterance: transcripts with start and end times; long recordings are cut where a segment ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from asr.data.transcript_cell import transcript
from asr.errors import DataError
from asr.parsed import JsonObject
from asr.utterance import Utterance

OF_THE_WHOLE = ("segments", "words")  # in ``Utterance.meta``: times that no piece of it has


@dataclass(frozen=True, slots=True)
class LabelledSegment:
    """A stretch of speech and its words; times in seconds from the beginning of what holds it."""

    start_s: float
    end_s: float
    text: str


def segments(utterance: Utterance) -> list[LabelledSegment]:
    """Return the segments in ``utterance.meta["segments"]`` (objects with ``start``, ``end`` and ``text``), if any.

    Raises DataError bad_segments where they are malformed, out of order, overlapping, or beyond the utterance's end,
    and not_text where one's text is none.
    """
    given = utterance.meta.get("segments", [])
    if not isinstance(given, list):
        raise DataError("bad_segments", f"a {type(given).__name__}, not a list")
    found = [_segment(each, number) for number, each in enumerate(given)]
    end_s = 0.0
    for number, segment in enumerate(found):
        if not end_s <= segment.start_s < segment.end_s:
            raise DataError(
                "bad_segments",
                f"segment {number} lasts from {segment.start_s:g} to {segment.end_s:g} s, after one until {end_s:g} s",
            )
        end_s = segment.end_s
    if utterance.duration_s is not None and end_s > utterance.duration_s + 0.05:  # aligners round
        raise DataError("bad_segments", f"the last ends at {end_s:g} s, the recording at {utterance.duration_s:g} s")
    return found


def split(utterance: Utterance, max_s: float) -> list[Utterance]:
    """Cut an utterance into pieces of as many segments as fit ``max_s`` seconds; their ids are ``id#0``, ``id#1`` ...

    A piece lasts from the start of its first segment to the end of its last one. A segment longer than ``max_s`` is a
    piece of its own, and still too long. Raises DataError too_long where there are no segments, or bad_segments.
    """
    known = segments(utterance)
    if not known:
        length = "" if utterance.duration_s is None else f"{utterance.duration_s:.2f} s, "
        raise DataError("too_long", f"{length}over {max_s:g} s, and no segment times to split it at")
    pieces: list[list[LabelledSegment]] = []
    for segment in known:
        if pieces and segment.end_s - pieces[-1][0].start_s <= max_s:
            pieces[-1].append(segment)
        else:
            pieces.append([segment])
    return [piece_of(utterance, number, piece) for number, piece in enumerate(pieces)]


def piece_of(utterance: Utterance, number: int, piece: Sequence[LabelledSegment]) -> Utterance:
    """Return the stretch of an utterance that holds these neighbouring segments; its id is ``id#number``."""
    start_s, end_s = piece[0].start_s, piece[-1].end_s
    return replace(
        utterance,
        id=f"{utterance.id}#{number}",
        text=" ".join(segment.text.strip() for segment in piece),
        duration_s=round(end_s - start_s, 6),
        start_s=round(utterance.start_s + start_s, 6),
        end_s=round(utterance.start_s + end_s, 6),
        meta={key: value for key, value in utterance.meta.items() if key not in OF_THE_WHOLE},
    )


def _segment(given: JsonObject, number: int) -> LabelledSegment:
    try:
        return LabelledSegment(float(given["start"]), float(given["end"]), transcript(given["text"]))
    except (TypeError, KeyError, ValueError):
        raise DataError("bad_segments", f"segment {number} has no start, end and text: {given!r:.80}") from None
