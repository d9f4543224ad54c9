"""The history of a run: a line of JSON for each step and each evaluation, whatever interrupted it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from asr.io import storage
from asr.io.unretryable import writing
from asr.parsed import JsonObject
from train.evaluation.schedule import as_json, from_json
from train.events import Failed, Progress, Scored

NAME = "history.jsonl"
Row = JsonObject


class History:
    """Appends to ``history.jsonl`` of a run's folder. Only evaluations and the last step are held in memory.

    Whatever lies beyond the step from which a run goes on is cut off when it does. Of a folder at an address a local
    copy is kept, which ``publish`` takes there.
    """

    def __init__(self, uri: str) -> None:
        self._uri = storage.join(uri, NAME)
        self.path = Path(mkdtemp(prefix="whisperfleet-"), NAME) if storage.is_remote(uri) else Path(self._uri)
        if storage.exists(self._uri):
            if storage.is_remote(uri):
                self.path.write_bytes(storage.read_bytes(self._uri))
        else:
            storage.write_bytes(str(self.path), b"")
        self._scored: dict[tuple[str, int], Scored] = {}
        self._last: Row | None = None
        self._resumed_at: int | None = None
        self._cut(None)  # a line that a crash left half-written goes

    @property
    def scored(self) -> list[Scored]:
        """All evaluations of the run."""
        return list(self._scored.values())

    @property
    def wer(self) -> float | None:
        """The newest word error rate on the validation sample."""
        rates = [one for one in self._scored.values() if one.corpus == "validation"]
        return max(rates, key=lambda one: one.step).wer if rates else None

    def cut_by(self, progress: Progress) -> bool:
        """Cut off what this step makes void, because its run went on from an earlier one. Return whether it did."""
        last = self._last["step"] if self._last else 0
        again = progress.step <= last or (self._resumed_at != progress.resumed_at and progress.resumed_at < last)
        self._resumed_at = progress.resumed_at
        if again:
            self._cut(progress.resumed_at)
        return again

    def add_step(self, progress: Progress) -> Row:
        """Append a step and return its row; speeds and shares are those since the step before."""
        row = _row(progress, self._last)
        self._append(row)
        self._last = row
        return row

    def add_scored(self, scored: Scored) -> bool:
        """Append an evaluation, unless it is there already; return whether it was new."""
        key = (scored.corpus, scored.step)
        if key in self._scored:
            return False
        self._scored[key] = scored
        self._append(as_json([scored])[0])
        return True

    def add_failed(self, failed: Failed) -> None:
        """Append that an evaluation failed, and why."""
        self._append({"step": failed.step, "failed": failed.error})

    def publish(self) -> None:
        """Bring the run's folder up to date, where that is an address."""
        if storage.is_remote(self._uri):
            storage.write_bytes(self._uri, self.path.read_bytes())

    def _append(self, row: Row) -> None:
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _cut(self, last_step: int | None) -> None:
        self._scored, self._last = {}, None
        with writing(self.path), storage.whole(self.path) as shorter, shorter.open("w", encoding="utf-8") as file:
            for row in rows(self.path):
                if last_step is not None and row["step"] > last_step:
                    continue
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                if "corpus" in row:
                    self._scored[row["corpus"], row["step"]] = from_json([row])[0]
                elif "loss" in row:
                    self._last = row


def evaluations(path: Path) -> list[Scored]:
    """Return the evaluations in a history file."""
    return from_json([row for row in rows(path) if "corpus" in row])


def failures(path: Path) -> list[Failed]:
    """Return the evaluations in a history file that failed."""
    return [Failed(row["step"], row["failed"]) for row in rows(path) if "failed" in row]


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a history file.

    Steps have a ``loss``, evaluations a ``corpus`` and a ``summary``, those that failed the reason in ``failed``.
    """
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):  # what a crash left half-written has none
                yield json.loads(line)


def _row(now: Progress, before: Row | None) -> Row:
    row: Row = {"step": now.step, "loss": now.loss, "learning_rate": now.learning_rate}
    if now.grad_norm is not None:
        row["grad_norm"] = now.grad_norm
    if now.blank_share is not None:
        row["blank_share"] = now.blank_share
    seconds = now.seconds - (before["seconds"] if before else 0.0)
    if seconds > 0:
        of = {name: getattr(now, name) - (before[name] if before else 0) for name in ("audio_s", "wait_s", "tokens")}
        row["audio_per_s"] = round(of["audio_s"] / seconds, 3)
        row["tokens_per_s"] = round(of["tokens"] / seconds, 3)
        row["wait_share"] = round(min(max(of["wait_s"] / seconds, 0.0), 1.0), 5)
    row |= {"padding_share": round(now.padding_share, 5), "memory_gib": round(now.memory_bytes / 2**30, 4)}
    totals = {"seconds": round(now.seconds, 3), "audio_s": round(now.audio_s, 3), "wait_s": round(now.wait_s, 4)}
    return row | totals | {"tokens": now.tokens}
