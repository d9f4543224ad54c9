"""Inspection of a source of labelled speech: hours, languages, lengths, odd characters, duplicates, overlap, faults."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from asr.models.processor import Processor
from asr.scoring.characters import OddCharacter
from train.data import casing, pace
from train.data.filters import Filters
from train.data.pace import PaceFigures
from train.data.prefetch import ahead
from train.data.prepare import OnProgress, Row, length_of
from train.data.survey import Repeats, Same, Survey, look

BIN_S = 0.5
NUM_BINS = 61  # up to 30 s, the longest window of any family, and one for all that is longer


class InspectConfig(Filters):
    """Limits that make a row a fault, as in ``data prepare``, and the number of examples shown."""

    examples: int = Field(3, ge=0)
    """Ids shown for each character, fault and kind of duplicate."""


@dataclass(frozen=True)
class Amount:
    """So many clips, and how long they are together."""

    clips: int
    hours: float


@dataclass(frozen=True)
class Inspection:
    """The result for one source. Every row is in ``usable`` or is counted in ``faults``."""

    rows: int
    usable: Amount
    decoded: Amount
    """Everything that could be decoded, too long and too short clips included."""
    languages: dict[str, Amount]
    """Clips that could be decoded by Whisper's language code; ``unknown`` for rows that name none."""
    speakers: int
    sample_rates: dict[str, int]
    """Clips by what their headers say; so are channels and codecs."""
    channels: dict[str, int]
    codecs: dict[str, int]
    histogram: tuple[int, ...]
    """Clips that could be decoded by length, in bins of 0.5 s; the last bin holds all of 30 s and more."""
    length_s: dict[str, float]
    """Minimum, median, mean and maximum; empty where nothing could be decoded."""
    tokens_per_s: float
    max_label_tokens: int
    """With the start and end tokens; labels for which the processor has no room are faults."""
    characters: tuple[OddCharacter, ...]
    duplicates: dict[Same, Repeats]
    """By transcript (letters and digits) and by audio (samples at 16 kHz mono); the same id twice is a fault."""
    overlap: dict[Same, Repeats]
    """The same between this source and the one it was compared with; empty where there was none."""
    pace: PaceFigures | None
    """Speed at which the transcripts would be spoken, and agreement of their lengths with the clips'."""
    warnings: tuple[str, ...]
    """Findings about the set as a whole, and hints: letters of one case, texts that cannot belong to the audio."""
    faults: dict[str, int]
    """Rows by reason, as ``data prepare`` and a run would quarantine them."""
    fault_examples: dict[str, tuple[str, ...]]
    """Ids, with details."""
    seconds_per_1000_clips: float
    """Wall time, the other source's included."""

    def to_json(self) -> str:
        """Return the result as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def inspect(
    rows: Iterable[Row],
    processor: Processor,
    config: InspectConfig,
    against: Iterable[Row] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Inspection, Survey]:
    """Read and decode every row of a source, in threads, and of the source ``against``, if any.

    Rows may come from an iterator over more audio than fits into memory. ``on_progress`` is called with (rows done, all
    rows or None where nobody knows). The survey has what the result only counts: lengths and faults.
    """
    begin = time.perf_counter()
    total = _sum(length_of(rows), 0 if against is None else length_of(against))
    done = 0

    def gathered(part: Iterable[Row], survey: Survey) -> Survey:
        nonlocal done
        for seen in ahead(partial(look, config=config), part):
            survey.add(seen)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        return survey

    other = None if against is None else gathered(against, Survey(config.examples, processor)).duplicates
    survey = gathered(rows, Survey(config.examples, processor, other))
    per_1000 = 1000 * (time.perf_counter() - begin) / max(done, 1)
    return _inspection(survey, per_1000), survey


def _sum(*lengths: int | None) -> int | None:
    known = [length for length in lengths if length is not None]
    return sum(known) if len(known) == len(lengths) else None


def _inspection(survey: Survey, seconds_per_1000_clips: float) -> Inspection:
    lengths_s = np.frombuffer(survey.lengths_s, np.float32) if survey.lengths_s else np.zeros(0, np.float32)
    bins = np.minimum((lengths_s / BIN_S).astype(np.int64), NUM_BINS - 1)
    decoded_s = float(lengths_s.sum(dtype=np.float64))
    examples: dict[str, list[str]] = defaultdict(list)
    for fault in survey.faults:
        if len(examples[fault.reason]) < survey.num_examples:
            examples[fault.reason].append(f"{fault.id}: {fault.detail}" if fault.detail else fault.id)
    spoken = survey.pace.figures()
    return Inspection(
        rows=survey.rows,
        usable=Amount(survey.usable, _hours(survey.usable_s)),
        decoded=Amount(len(lengths_s), _hours(decoded_s)),
        languages={
            language: Amount(clips, _hours(survey.seconds[language])) for language, clips in survey.clips.most_common()
        },
        speakers=len(survey.speakers),
        sample_rates=_counts((str(h.sample_rate), n) for h, n in survey.headers.items()),
        channels=_counts((str(h.channels), n) for h, n in survey.headers.items()),
        codecs=_counts((h.codec, n) for h, n in survey.headers.items()),
        histogram=tuple(np.bincount(bins, minlength=NUM_BINS).tolist()),
        length_s=_summary(lengths_s),
        tokens_per_s=round(survey.tokens / survey.usable_s, 2) if survey.usable_s else 0.0,
        max_label_tokens=survey.max_label_tokens,
        characters=survey.characters.odd(survey.num_tokens),
        duplicates={kind: seen.repeats() for kind, seen in survey.duplicates.items()},
        overlap={} if survey.against is None else {kind: seen.repeats() for kind, seen in survey.overlap.items()},
        pace=spoken,
        warnings=_warnings(survey.casing.finding(), spoken),
        faults=_counts((fault.reason, 1) for fault in survey.faults),
        fault_examples={reason: tuple(ids) for reason, ids in sorted(examples.items())},
        seconds_per_1000_clips=round(seconds_per_1000_clips, 2),
    )


def _warnings(one_case: str, spoken: PaceFigures | None) -> tuple[str, ...]:
    odd = spoken.findings() if spoken is not None else []
    found = [f"{what}; {pace.ADVICE}" for what in odd]
    return (*found, *([f"{one_case}; {casing.ADVICE}"] if one_case else []))


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 4)


def _counts(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, count in pairs:
        counts[name] += count
    return dict(counts.most_common())


def _summary(lengths_s: NDArray[np.float32]) -> dict[str, float]:
    if not len(lengths_s):
        return {}
    figures = {"min": lengths_s.min(), "median": np.median(lengths_s), "mean": lengths_s.mean(), "max": lengths_s.max()}
    return {name: round(float(value), 3) for name, value in figures.items()}
