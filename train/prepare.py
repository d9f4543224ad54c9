"""From a source of labelled speech to three manifests of 16 kHz FLAC clips, and a table of what could not be used."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, model_validator

from asr.audio import SAMPLE_RATE, AudioLimits, decode, encode_flac
from asr.config import Section, suggestion
from asr.errors import DataError, UserError
from asr.manifest import read_manifest, write_manifest, write_quarantine
from asr.split import split
from asr.utterance import Quarantined, Utterance
from train import prompts

PROMPTS = "prompts:"
RAW_CONTAINERS = {".g722": "g722"}  # nothing in such a file says what it is


class PrepareConfig(Section):
    """Which clips are used, and how they are dealt into training, validation and test."""

    min_audio_s: float = Field(0.2, ge=0)
    """Shorter clips are quarantined as too_short."""
    max_audio_s: float = Field(30.0, gt=0, le=30.0)
    """Longer clips are quarantined as too_long; Whisper hears 30 s."""
    max_chars_per_s: float = Field(25.0, gt=0)
    """Transcripts too long for their clip are quarantined as text_too_long: words are missing from the audio.

    Over the five prompt packages the fastest true reading is 24.9 characters a second, the first false one 30.3."""
    validation_share: float = Field(0.06, ge=0, lt=1)
    """Share of the clips that steers training."""
    test_share: float = Field(0.1, ge=0, lt=1)
    """Share of the clips that training never sees."""
    min_test_clips: int = Field(64, ge=1)
    """Fewer test clips make a word error rate whose interval says nothing."""
    seed: int = 0
    """Another seed deals the clips differently."""

    @model_validator(mode="after")
    def _order(self) -> PrepareConfig:
        if self.min_audio_s >= self.max_audio_s:
            raise ValueError(f"min_audio_s={self.min_audio_s:g} is not below max_audio_s={self.max_audio_s:g}")
        return self


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` wrote. The dictionaries ``manifests``, ``clips`` and ``hours`` have a key for each split."""

    manifests: dict[str, Path]
    clips: dict[str, int]
    hours: dict[str, float]
    quarantined: dict[str, int]
    """Number of rows by reason."""
    fingerprint: str
    """SHA-256 over the sorted ids, texts and durations of all usable clips."""

    @property
    def reasons(self) -> str:
        """What went into quarantine, in words: ``3 too_long, 1 not_audio``, or ``none``."""
        return ", ".join(f"{count} {reason}" for reason, count in self.quarantined.items()) or "none"


def source(spec: str, cache: Path) -> list[Utterance | Quarantined]:
    """Return the rows of ``prompts:LANGUAGE`` (downloaded into ``cache`` once) or of the JSONL manifest at a path.

    Raises UserError for anything else.
    """
    if spec.startswith(PROMPTS):
        language = spec.removeprefix(PROMPTS)
        good, bad = prompts.utterances(language, prompts.fetch(language, cache))
        return [*good, *bad]
    if Path(spec).is_file():
        return [*read_manifest(Path(spec))]
    known = [f"{PROMPTS}{language}" for language in prompts.LANGUAGES]
    folder = Path(spec).parent
    files = [str(folder / name) for name in sorted(os.listdir(folder))] if folder.is_dir() else []
    raise UserError(
        f"'{spec}' is neither a manifest file nor one of {', '.join(known)}", suggestion(spec, [*known, *files])
    )


def prepare(
    rows: Iterable[Utterance | Quarantined],
    out: Path,
    config: PrepareConfig,
    on_progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Decode every row into ``out/audio/*.flac``; write a manifest per split and ``quarantine.parquet``.

    ``out/prepared.json`` holds the result's figures; it is written last, so that its presence means complete. Rows that
    cannot be used are quarantined with a reason, never dropped. ``on_progress`` is called with (rows done, all rows).
    Raises UserError when too few usable clips remain to split.
    """
    (out / "audio").mkdir(parents=True, exist_ok=True)
    (out / "prepared.json").unlink(missing_ok=True)
    good, bad = _decoded(_unique(rows), out / "audio", config, on_progress)
    write_quarantine(out / "quarantine.parquet", bad)
    reasons = Counter(row.reason for row in bad)
    try:
        splits = split(
            good,
            validation_share=config.validation_share,
            test_share=config.test_share,
            min_test_clips=config.min_test_clips,
            seed=config.seed,
        )
    except UserError as error:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        raise UserError(f"{error.message}; quarantined: {why or 'none'}", error.hint) from None
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    for name, part in parts.items():
        write_manifest(out / f"{name}.jsonl", part)
    prepared = Prepared(
        manifests={name: out / f"{name}.jsonl" for name in parts},
        clips={name: len(part) for name, part in parts.items()},
        hours={name: round(sum(u.duration_s or 0.0 for u in part) / 3600, 4) for name, part in parts.items()},
        quarantined=dict(sorted(reasons.items())),
        fingerprint=fingerprint(good),
    )
    _write_summary(out, prepared, config)
    return prepared


def _unique(rows: Iterable[Utterance | Quarantined]) -> list[Utterance | Quarantined]:
    """Quarantine later rows of an id that came before: their clips would overwrite each other."""
    seen: set[str] = set()
    unique: list[Utterance | Quarantined] = []
    for row in rows:
        duplicate = isinstance(row, Utterance) and row.id in seen
        unique.append(Quarantined(row.id, "duplicate_id") if duplicate else row)
        if isinstance(row, Utterance):
            seen.add(row.id)
    return unique


def _decoded(
    rows: list[Utterance | Quarantined],
    folder: Path,
    config: PrepareConfig,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[list[Utterance], list[Quarantined]]:
    good: list[Utterance] = []
    bad: list[Quarantined] = []

    def work(row: Utterance | Quarantined) -> Utterance | Quarantined:
        return _clip(row, folder, config) if isinstance(row, Utterance) else row

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # FFmpeg decodes and encodes outside the GIL
        for done, row in enumerate(pool.map(work, rows), start=1):
            if isinstance(row, Utterance):
                good.append(row)
            else:
                bad.append(row)
            if on_progress is not None:
                on_progress(done, len(rows))
    return good, bad


def _clip(row: Utterance, folder: Path, config: PrepareConfig) -> Utterance | Quarantined:
    """Write one clip as FLAC and return the row that names it, or why it is unusable."""
    limits = AudioLimits(min_audio_s=config.min_audio_s, max_audio_s=config.max_audio_s)
    container = RAW_CONTAINERS.get(Path(row.audio).suffix.lower()) if isinstance(row.audio, str) else None
    try:
        if not any(map(str.isalnum, row.text)):
            raise DataError("no_transcript", f"{row.text!r} has no letter and no digit")
        waveform = decode(row.audio, start_s=row.start_s, end_s=row.end_s, limits=limits, container=container)
        duration_s = len(waveform) / SAMPLE_RATE
        if len(row.text) > config.max_chars_per_s * duration_s:
            raise DataError("text_too_long", f"{len(row.text)} characters in {duration_s:.2f} s")
    except DataError as error:
        return Quarantined(row.id, error.reason, error.detail)
    path = folder / _file_name(row.id)
    path.write_bytes(encode_flac(waveform))
    return replace(row, audio=str(path), duration_s=round(duration_s, 4), start_s=0.0, end_s=None)


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
