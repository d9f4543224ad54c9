"""Counts rows that could not be used by reason, with one example of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asr.utterance import Quarantined


@dataclass(frozen=True)
class Reason:
    """A reason, how many rows have it, and the first of them that has a detail."""

    reason: str
    rows: int
    example: str
    detail: str


def by_reason(quarantined: Iterable[Quarantined]) -> list[Reason]:
    """Return the reasons, the most frequent first."""
    groups: dict[str, list[Quarantined]] = {}
    for row in quarantined:
        groups.setdefault(row.reason, []).append(row)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    firsts = ((reason, rows, next((row for row in rows if row.detail), rows[0])) for reason, rows in ordered)
    return [Reason(reason, len(rows), first.id, first.detail) for reason, rows, first in firsts]
