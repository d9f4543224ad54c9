"""Prepares a source of labelled speech: manifests of 16 kHz FLAC clips, and a table of rows that were not usable."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from asr.audio.decode import SAMPLE_RATE, encode_flac
from asr.audio.sandbox import decode_utterances
from asr.audio.silence import require_sound
from asr.data import segments
from asr.data.manifest import write_manifest, write_quarantine
from asr.data.split import split
from asr.errors import DataError, UserError
from asr.io.unretryable import writing
from asr.sound import DEFAULT_CHOICE
from asr.utterance import Quarantined, Utterance
from train.data.filters import Filters
from train.data.prefetch import ahead

Row = Utterance | Quarantined
OnProgress = Callable[[int, int | None], None]


class PrepareConfig(Filters):
    """Choice of clips, and the split into training, validation and test for a source without splits."""

    long_clips: Literal["quarantine", "split"] = "quarantine"
    """Treatment of a clip over max_audio_s: too_long, or cut at the segment times that its row gives."""
    validation_share: float = Field(0.06, ge=0, lt=1)
    """Share of the clips that steers training."""
    test_share: float = Field(0.1, ge=0, lt=1)
    """Share of the clips that training never sees."""
    min_test_clips: int = Field(64, ge=1)
    """Fewer test clips make a word error rate whose interval says nothing."""
    seed: int = 0
    """Another seed deals the clips differently."""


@dataclass(frozen=True)
class Prepared:
    """Result of ``prepare``. The dictionaries ``manifests``, ``clips`` and ``hours`` have a key for each split."""

    manifests: dict[str, Path]
    clips: dict[str, int]
    hours: dict[str, float]
    quarantined: dict[str, int]
    """Number of rows by reason."""
    fingerprint: str
    """SHA-256 over the sorted ids, texts and durations of all usable clips."""
    seconds_per_1000_clips: float
    """Wall time over all rows, usable or not."""

    @property
    def reasons(self) -> str:
        """The quarantined rows by reason, in words: ``3 too_long, 1 not_audio``, or ``none``."""
        return ", ".join(f"{count} {reason}" for reason, count in self.quarantined.items()) or "none"


def prepare(
    rows: Iterable[Row] | Mapping[str, Iterable[Row]],
    out: Path,
    config: PrepareConfig,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """Decode every row into ``out/audio/*.flac``; write a manifest per split and ``quarantine.parquet``.

    ``rows`` by split are kept in the splits that they are in; rows without are dealt. Either may be an iterator over
    more audio than fits into memory. ``out/prepared.json`` holds the result's figures; it is written last, so that its
    presence means complete. Rows that cannot be used are quarantined with a reason, never dropped. ``on_progress`` is
    called with (rows done, all rows or None where nobody knows). Raises UserError when too few usable clips remain.
    """
    with writing(out):
        return _prepare(rows, out, config, on_progress)


def _prepare(
    rows: Iterable[Row] | Mapping[str, Iterable[Row]], out: Path, config: PrepareConfig, on_progress: OnProgress | None
) -> Prepared:
    begin = time.perf_counter()
    (out / "audio").mkdir(parents=True, exist_ok=True)
    (out / "prepared.json").unlink(missing_ok=True)
    given = rows if isinstance(rows, Mapping) else {"": rows}
    work = _Decoding(out / "audio", config, _counter(given.values(), on_progress))
    good = {name: work.usable(part) for name, part in given.items()}
    write_quarantine(out / "quarantine.parquet", work.quarantined)
    reasons = Counter(row.reason for row in work.quarantined)
    parts = _kept(good, reasons) if isinstance(rows, Mapping) else _dealt(good[""], reasons, config)
    for name, part in parts.items():
        write_manifest(out / f"{name}.jsonl", part)
    prepared = Prepared(
        manifests={name: out / f"{name}.jsonl" for name in parts},
        clips={name: len(part) for name, part in parts.items()},
        hours={name: round(sum(u.duration_s or 0.0 for u in part) / 3600, 4) for name, part in parts.items()},
        quarantined=dict(sorted(reasons.items())),
        fingerprint=fingerprint(u for part in good.values() for u in part),
        seconds_per_1000_clips=round(1000 * (time.perf_counter() - begin) / max(work.rows, 1), 2),
    )
    _write_summary(out, prepared, config)
    return prepared


def _kept(parts: dict[str, list[Utterance]], reasons: Counter[str]) -> dict[str, list[Utterance]]:
    for name, part in parts.items():
        if not part:
            raise UserError(f"split '{name}': no usable clip; quarantined: {_most(reasons)}")
    return {name: sorted(part, key=lambda u: u.id) for name, part in parts.items()}


def _dealt(good: list[Utterance], reasons: Counter[str], config: PrepareConfig) -> dict[str, list[Utterance]]:
    try:
        splits = split(
            good,
            validation_share=config.validation_share,
            test_share=config.test_share,
            min_test_clips=config.min_test_clips,
            seed=config.seed,
        )
    except UserError as error:
        raise UserError(f"{error.message}; quarantined: {_most(reasons)}", error.hint) from None
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def _most(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3)) or "none"


def _counter(parts: Iterable[Iterable[Row]], on_progress: OnProgress | None) -> Callable[[int], None]:
    lengths = [length_of(part) for part in parts]
    total = None if None in lengths else sum(length or 0 for length in lengths)
    return (lambda done: on_progress(done, total)) if on_progress else (lambda done: None)


class _Decoding:
    """Rows to clips on disk, and the rows that cannot become one, over all splits."""

    def __init__(self, folder: Path, config: PrepareConfig, on_done: Callable[[int], None]) -> None:
        self.folder = folder
        self.config = config
        self.on_done = on_done
        self.rows = 0
        self.quarantined: list[Quarantined] = []
        self.seen: set[str] = set()

    def usable(self, rows: Iterable[Row]) -> list[Utterance]:
        good: list[Utterance] = []
        for row in ahead(self._clips, self._unique(self._whole_or_cut(rows))):
            if isinstance(row, Utterance):
                good.append(row)
            else:
                self.quarantined.append(row)
            self.rows += 1
            self.on_done(self.rows)
        return good

    def _unique(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Quarantine later rows of an id that came before: their clips would overwrite each other."""
        for row in rows:
            yield Quarantined(row.id, "duplicate_id") if isinstance(row, Utterance) and row.id in self.seen else row
            if isinstance(row, Utterance):
                self.seen.add(row.id)

    def _whole_or_cut(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if self.config.long_clips == "quarantine" or isinstance(row, Quarantined):
                yield row
                continue
            try:
                yield from segments.split(row, self.config.max_audio_s) if self._is_long(row) else [row]
            except DataError as error:
                yield Quarantined(row.id, error.reason, error.detail)

    def _is_long(self, row: Utterance) -> bool:
        """Return whether a row with segment times is over max_audio_s, as far as the row tells."""
        known = segments.segments(row)
        if not known:
            return False  # decoding will tell, and quarantine it
        declared_s = row.duration_s if row.end_s is None else row.end_s - row.start_s
        return max(declared_s or 0.0, known[-1].end_s) > self.config.max_audio_s

    def _clips(self, rows: Sequence[Row]) -> list[Row]:
        """Write clips as FLAC and return the rows that name them, or why they are unusable."""
        limits = self.config.limits(self.config.min_audio_s, self.config.max_audio_s)
        checked = [self._with_text(row) for row in rows]
        sounds = decode_utterances([row for row in checked if isinstance(row, Utterance)], limits)
        return [self._clip(row, next(sounds)) if isinstance(row, Utterance) else row for row in checked]

    def _with_text(self, row: Row) -> Row:
        try:
            if isinstance(row, Utterance):
                self.config.check_text(row.text)
        except DataError as error:
            return Quarantined(row.id, error.reason, error.detail)
        return row

    def _clip(self, row: Utterance, sound: NDArray[np.float32] | DataError) -> Row:
        try:
            if isinstance(sound, DataError):
                raise sound
            duration_s = len(sound) / SAMPLE_RATE
            require_sound(sound)
            self.config.check_rate(row.text, duration_s)
        except DataError as error:
            return Quarantined(row.id, error.reason, error.detail)
        path = self.folder / _file_name(row.id)
        path.write_bytes(encode_flac(sound))
        whole = replace(row, audio=str(path), start_s=0.0, end_s=None, sound=DEFAULT_CHOICE)
        return replace(whole, duration_s=round(duration_s, 4))


def length_of(rows: Iterable[Row]) -> int | None:
    """Return the number of rows, None for an iterator."""
    return len(rows) if isinstance(rows, Sized) else None


def _file_name(id: str) -> str:
    """An id is any text, ``../../etc/passwd`` too, and some disks take A for a: the digest keeps files apart."""
    digest = hashlib.sha256(id.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', id)[:60].strip('-')}-{digest}.flac"


def fingerprint(rows: Iterable[Utterance]) -> str:
    """Return a SHA-256 over the ids, texts and durations of utterances, whatever their order."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda u: u.id):
        digest.update(json.dumps([row.id, row.text, row.duration_s]).encode())
    return digest.hexdigest()


def _write_summary(out: Path, prepared: Prepared, config: PrepareConfig) -> None:
    summary = {
        "clips": prepared.clips,
        "hours": prepared.hours,
        "quarantined": prepared.quarantined,
        "fingerprint": prepared.fingerprint,
        "config": config.model_dump(mode="json"),
    }
    temporary = out / ".prepared.json"
    temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    temporary.replace(out / "prepared.json")
