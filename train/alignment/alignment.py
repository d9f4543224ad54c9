"""Aligns all rows of a source into a manifest, with a table of what could not be aligned; resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from asr.data.manifest import write_manifest, write_quarantine
from asr.errors import UserError
from asr.inference.align import align
from asr.models.alignment import SegmentLimits
from asr.models.family import SpeechModel
from asr.quarantine import Reason, by_reason
from asr.utterance import Quarantined, Utterance
from train.alignment.journal import DoneRow, Journal

OnProgress = Callable[[int, int], None]

_SUFFIX = ".jsonl"
_SHOWN_FOLDERS = 3


@dataclass(frozen=True)
class AlignedFiles:
    """Places of a run's results."""

    manifest: Path
    quarantine: Path

    @classmethod
    def at(cls, out: Path) -> AlignedFiles:
        """Return those of ``--out``: a manifest's name with the table beside it, or a folder for both."""
        if out.suffix == _SUFFIX and not out.is_dir():
            return cls(out, out.with_name(f"{out.stem}.quarantine.parquet"))
        return cls(out / f"aligned{_SUFFIX}", out / "quarantine.parquet")

    @property
    def journal(self) -> Path:
        """The file of what an interrupted run has done."""
        return self.manifest.with_name(f".{self.manifest.name}.part")


@dataclass(frozen=True)
class AlignmentSummary:
    """Figures of a run: rows with ``words``, long recordings, the segments they were cut into, and hours of each.

    ``quarantined`` counts rows and parts of texts by reason. ``elsewhere`` are the folders of audio that does not lie
    in the manifest's: whoever reads it has to name them.
    """

    clips: int
    recordings: int
    segments: int
    clip_hours: float
    recording_hours: float
    segment_hours: float
    quarantined: tuple[Reason, ...]
    elsewhere: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the figures for machines."""
        return asdict(self) | {"quarantined": {one.reason: one.rows for one in self.quarantined}}


def align_rows(
    model: SpeechModel,
    rows: Sequence[Utterance],
    unread: Sequence[Quarantined],
    limits: SegmentLimits,
    files: AlignedFiles,
    key: Sequence[object],
    on_progress: OnProgress,
) -> AlignmentSummary:
    """Align rows with a model, in their order; ``unread`` are those of the source that are none.

    The manifest and the table appear whole, at the end. What an interrupted run with the same ``key`` had done of the
    same rows is not done again. Raises UserError where no row can be aligned.
    """
    first: dict[str, Utterance] = {}
    quarantined = list(unread)
    for row in rows:
        if row.id in first:
            quarantined.append(Quarantined(row.id, "duplicate_id", "an earlier row has this id"))
        first.setdefault(row.id, row)
    journal = Journal(files.journal, [*key, asdict(limits)])
    results: dict[str, DoneRow] = {}
    for row in first.values():
        if (known := journal.done(row)) is not None:
            results[row.id] = known
    for one in align(model, [row for row in first.values() if row.id not in results], limits):
        done = DoneRow(one.rows, one.quarantined, one.sound_s, one.is_long)
        if done.rows:  # what failed may have been mended until the next time
            journal.add(one.source, done)
        results[one.source.id] = done
        on_progress(len(results), len(first))
    in_order = [results[id] for id in first]
    quarantined += [fault for done in in_order for fault in done.quarantined]
    aligned = [row for done in in_order for row in done.rows]
    if not aligned:
        journal.remove()
        told = f", the first: {quarantined[0].id}: {quarantined[0].reason}: {quarantined[0].detail}"
        raise UserError(f"none of {len(rows) + len(unread)} rows can be aligned{told}")
    write_manifest(files.manifest, aligned)
    write_quarantine(files.quarantine, quarantined)
    journal.remove()
    return _summary(in_order, quarantined, files.manifest.parent.resolve())


def named(rows: Iterable[Utterance], language: str | None) -> list[Utterance]:
    """Return rows with the language of those that name none. Raises UserError for audio that has no file's name."""
    found = [replace(row, language=row.language or language) for row in rows]
    inside = next((row for row in found if isinstance(row.audio, bytes)), None)
    if inside is not None:
        what = f"{inside.id}: its audio lies in the table itself, which a manifest cannot name"
        raise UserError(what, "write clips with `data prepare` first, and align its manifests")
    return found


def _summary(results: Sequence[DoneRow], quarantined: Sequence[Quarantined], folder: Path) -> AlignmentSummary:
    audio = {Path(str(row.audio)).resolve() for done in results for row in done.rows if "://" not in str(row.audio)}
    cut = [done for done in results if done.is_long]
    clips = [done for done in results if done.rows and not done.is_long]
    segments = [row for done in cut for row in done.rows]
    return AlignmentSummary(
        clips=len(clips),
        recordings=len(cut),
        segments=len(segments),
        clip_hours=_hours(done.sound_s for done in clips),
        recording_hours=_hours(done.sound_s for done in cut),
        segment_hours=_hours(row.duration_s or 0.0 for row in segments),
        quarantined=tuple(by_reason(quarantined)),
        elsewhere=_topmost({one.parent for one in audio if not one.is_relative_to(folder)}),
    )


def _topmost(folders: Set[Path]) -> tuple[str, ...]:
    """Return the folders that are below none of the others; of many the one that they have in common."""
    tops = sorted(str(one) for one in folders if folders.isdisjoint(one.parents))
    shared = os.path.commonpath(tops) if tops else ""
    return (shared,) if len(tops) > _SHOWN_FOLDERS and Path(shared) != Path(shared).parent else tuple(tops)


def _hours(seconds: Iterable[float]) -> float:
    return round(sum(seconds) / 3600, 4)
