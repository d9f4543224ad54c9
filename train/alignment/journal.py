"""Journal of an alignment run: what is done row by row, so that the same command goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.parsed import JsonObject
from asr.sound import SoundChoice
from asr.utterance import Quarantined, Utterance

_FORMAT = 1  # counts the changes to what is kept: an older journal is not used


@dataclass(frozen=True)
class DoneRow:
    """The rows that a source's row has become, as ``asr.inference.align.Aligned`` has them."""

    rows: tuple[Utterance, ...]
    quarantined: tuple[Quarantined, ...]
    sound_s: float
    is_long: bool


class Journal:
    """File of rows that are done, each written when it is; ``key`` says what the results depend on beside the rows.

    A journal with another key begins anew. A line that a kill has cut counts for nothing.
    """

    def __init__(self, path: Path, key: Sequence[object]) -> None:
        self._path = path
        self._head = hashlib.sha256(json.dumps([_FORMAT, *key]).encode()).hexdigest()
        self._done = self._read()
        whole = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [self._head, *self._lines()])
        path.write_text(whole, encoding="utf-8")

    def done(self, row: Utterance) -> DoneRow | None:
        """Return what is known of a row, None where it is still to do."""
        return self._done.get(_digest(row))

    def add(self, row: Utterance, done: DoneRow) -> None:
        """Keep what a row has become."""
        self._done[_digest(row)] = done
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(_line(_digest(row), done), ensure_ascii=False) + "\n")

    def remove(self) -> None:
        """Remove the file, once everything is where it belongs."""
        self._path.unlink(missing_ok=True)

    def _lines(self) -> list[JsonObject]:
        return [_line(digest, done) for digest, done in self._done.items()]

    def _read(self) -> dict[str, DoneRow]:
        try:
            head, *lines = self._path.read_text(encoding="utf-8").split("\n")  # not at U+2028, as splitlines
            if json.loads(head) != self._head:
                return {}
        except (OSError, ValueError):
            return {}
        found: dict[str, DoneRow] = {}
        for line in lines:
            try:
                kept: JsonObject = json.loads(line)
            except ValueError:
                break
            found[kept["of"]] = DoneRow(
                tuple(Utterance(**{**row, "sound": SoundChoice(**row["sound"])}) for row in kept["rows"]),
                tuple(Quarantined(**row) for row in kept["quarantined"]),
                kept["sound_s"],
                kept["is_long"],
            )
        return found


def _line(digest: str, done: DoneRow) -> JsonObject:
    return {"of": digest, **asdict(done)}


def _digest(row: Utterance) -> str:
    return hashlib.sha256(json.dumps(asdict(row), sort_keys=True).encode()).hexdigest()
