"""The folder that transcripts are written to: which there are, what they were made with, and what failed."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum

from asr.data.manifest import json_object
from asr.errors import DataError, UserError
from asr.inference.formats import as_srt, as_text, as_verbose_json, as_vtt
from asr.inference.recording import Recording
from asr.io import storage
from asr.io.spreadsheet import cells, told
from asr.parsed import JsonObject
from asr.sound import AUTO, SoundReport
from asr.transcript import Task
from serve.batch.inputs import Input

RECORD = "transcripts.json"
FAILURES = "failures.csv"

_COLUMNS = ("input", "reason", "detail", "kind")
_FAILURE, _WARNING = "failure", "warning"
_SHOWN = 100  # characters of a setting in a message


class Format(StrEnum):
    """Format of a transcript, which is the suffix of its file."""

    TXT = "txt"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


@dataclass(frozen=True)
class Settings:
    """Settings that decide which words are written. Transcripts in one folder have them in common.

    ``weights`` are the digests in an artifact's card, empty for what is none: one that was trained anew in its place
    is another model.
    """

    model: str
    weights: Mapping[str, str]
    engine: str
    language: str | None
    task: Task
    prompt: str
    timestamps: bool
    words: bool
    track: int | None = None
    channel: str = AUTO
    keywords: str = ""  # a list in JSON; none


_DEFAULTS = {one.name: one.default for one in fields(Settings) if one.default is not MISSING}  # of older records


def document(recording: Recording, form: Format, task: Task, words: bool) -> str:
    """Return a recording as the file of one format holds it; ``json`` is what the endpoint calls verbose_json."""
    match form:
        case Format.JSON:
            body = as_verbose_json(recording, task, ("segment", "word") if words else ("segment",))
            return json.dumps(body, ensure_ascii=False, indent=1) + "\n"
        case Format.SRT:
            return as_srt(recording)
        case Format.VTT:
            return as_vtt(recording)
        case Format.TXT:
            return as_text(recording)


class Folder:
    """A local folder or an address, and the record in it of which transcript is whose.

    Names are given before the work begins and kept in the record: a later run, on more inputs, finds the same ones.
    """

    def __init__(self, uri: str, settings: Settings, formats: Sequence[Format]) -> None:
        self.uri = uri
        self.settings = settings
        self.formats = tuple(form for form in Format if form in formats)
        self._stems: dict[str, str] = {}
        self._present: frozenset[str] = frozenset()
        self._warnings: dict[str, tuple[str, str]] = {}  # reason and detail, by address; of earlier runs too
        self._kept = 0
        self._record = ""

    def open(self, inputs: Sequence[Input], overwrite: bool = False) -> list[str]:
        """Give each input its name, and write the record; return a line for each name that is not the input's own.

        Raises UserError where the transcripts there were made with other settings, or by other software. With
        ``overwrite`` those that the record names are removed first.
        """
        record = self._read()
        self._present = self._files()
        written = [
            name
            for stem in record.get("transcripts", {}).values()
            for name in (f"{stem}.{form}" for form in Format)
            if name in self._present
        ]
        if overwrite:
            self._remove(written)
            record = {}
        elif written:
            self._refuse_others(record)
        self._stems = dict(record.get("transcripts", {}))
        self._warnings = self._warned(record.get("transcripts", {}))
        notes = self._name([one for one in inputs if one.address not in self._stems])
        body = {"settings": asdict(self.settings), "transcripts": self._stems}
        self._record = json.dumps(body, ensure_ascii=False, indent=1) + "\n"
        storage.write_text(self._at(RECORD), self._record)
        return notes

    def is_done(self, one: Input) -> bool:
        """Return whether an input was transcribed, in all formats, before this folder was opened."""
        return all(f"{self._stems[one.address]}.{form}" in self._present for form in self.formats)

    def write(self, one: Input, recording: Recording) -> bool:
        """Write an input's transcript, each format whole or not at all; return whether there is a warning about it.

        Raises UserError where another run has taken an address meanwhile, which nobody can hold as a folder is held.
        """
        if storage.is_remote(self.uri) and storage.read_text(self._at(RECORD)) != self._record:
            raise UserError(f"{self.uri}: another transcribe writes there", "wait for it, or choose another --out")
        warned = bool(recording.sound and self._warn(one, recording.sound))
        for form in self.formats:
            text = document(recording, form, self.settings.task, self.settings.words)
            storage.write_text(self._inside(f"{self._stems[one.address]}.{form}"), text)
        return warned

    def write_failures(self, failures: Iterable[tuple[Input, DataError]]) -> None:
        """Write the table of what failed in this run, and of what is to be known about the transcripts that are there.

        Its columns are input, reason, detail and kind: ``failure``, or ``warning`` of a recording that was transcribed.
        """
        failed = {one.address: (error.reason, error.detail) for one, error in failures}
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)  # else a "\r" would end a row
        writer.writerow(_COLUMNS)
        warned = {address: why for address, why in self._warnings.items() if address not in failed}
        for kind, rows in ((_FAILURE, failed), (_WARNING, warned)):
            writer.writerows(cells([address, *why, kind]) for address, why in rows.items())
        storage.write_text(self._at(FAILURES), table.getvalue())

    def _warn(self, one: Input, sound: SoundReport) -> bool:
        """Note what is to be known about a recording; before its transcript is there, so that a kill loses neither."""
        self._warnings.pop(one.address, None)
        if not sound.warnings:
            return False
        self._warnings[one.address] = "damaged" if sound.damaged_s else "noted", "; ".join(sound.warnings)
        # A table is written as a whole: the longer it is, the more seldom. After the run it is there anyway.
        if len(self._warnings) > self._kept * 9 // 8:
            self._kept = len(self._warnings)
            self.write_failures([])
        return True

    def _warned(self, stems: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return the warnings of earlier runs about transcripts that are there: who goes on keeps them."""
        uri = self._at(FAILURES)
        there = {one for one, stem in stems.items() if any(f"{stem}.{form}" in self._present for form in Format)}
        if not there or FAILURES not in self._present:
            return {}
        rows = csv.DictReader(io.StringIO(storage.read_text(uri), newline=""))
        try:
            told_rows = [[told(row.get(name) or "") for name in _COLUMNS] for row in rows]
        except csv.Error as error:
            raise UserError(f"{uri}: not written by whisperfleet transcribe: {error}", "remove it") from None
        return {input: (why, more) for input, why, more, kind in told_rows if kind == _WARNING and input in there}

    def _at(self, name: str) -> str:
        return storage.join(self.uri, *name.split("/"))

    def _inside(self, name: str) -> str:
        """Return where a file is written or removed. Raises UserError where a folder on the way leads elsewhere."""
        uri = self._at(name)
        if not storage.is_remote(uri):  # a link in place of the file itself is replaced, and not followed
            root, folder = os.path.realpath(storage.local_path(self.uri)), os.path.realpath(os.path.dirname(uri))
            if os.path.commonpath([root, folder]) != root:
                raise UserError(f"{os.path.dirname(uri)}: leads out of {self.uri}, to {folder}", "remove the link")
        return uri

    def _files(self) -> frozenset[str]:
        if storage.kind(self.uri) != "folder":
            return frozenset()
        return frozenset(entry.name for entry in storage.list_files(self.uri))

    def _read(self) -> JsonObject:
        uri = self._at(RECORD)
        if not storage.exists(uri):
            return {}
        record = json_object(storage.read_text(uri), uri)
        stems = record.get("transcripts")
        if not isinstance(record.get("settings"), dict) or not isinstance(stems, dict):
            raise UserError(f"{uri}: not written by whisperfleet transcribe", "choose another --out")
        for address, stem in stems.items():
            if not _is_name(stem):  # or whoever wrote the folder would choose what is overwritten elsewhere
                raise UserError(
                    f"{uri}: {address} has the name {stem!r:.100}, outside of the folder", "remove the record"
                )
        if len({*stems.values(), os.path.splitext(RECORD)[0]}) <= len(stems):
            raise UserError(f"{uri}: two transcripts have one name", "remove the record")
        return record

    def _refuse_others(self, record: JsonObject) -> None:
        before, now = _DEFAULTS | record["settings"], asdict(self.settings)
        other = [key for key in now if before.get(key) != now[key]]
        if other:
            was = ", ".join(f"{key}={_shown(before.get(key))}" for key in other if key != "weights") or "other weights"
            raise UserError(
                f"{self.uri}: the transcripts there were made with {was}",
                "--overwrite to begin anew, or another --out",
            )

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            uri = self._inside(name)
            with storage.explained(uri, "cannot be removed"):
                filesystem, path = storage.resolve(uri)
                filesystem.delete_file(path)
        self._present -= set(names)

    def _name(self, inputs: Sequence[Input]) -> list[str]:
        """Name new inputs after themselves, without the suffix where nothing else has that name already."""
        notes = []
        wanted = [os.path.splitext(one.name)[0] for one in inputs]
        taken = {stem for stem, count in Counter(wanted).items() if count > 1}
        taken |= {*self._stems.values(), os.path.splitext(RECORD)[0]}
        taken |= {os.path.splitext(name)[0] for name in self._present if name.endswith(tuple(Format))}
        for one, stem in zip(inputs, wanted, strict=True):
            number = 1
            while stem in taken:
                stem = one.name if number == 1 else f"{one.name} ({number})"
                number += 1
            taken.add(stem)
            self._stems[one.address] = stem
            if number > 1:
                notes.append(f"{one.address}: its name is taken, it is written as {stem}.{self.formats[0]}")
        return notes


def _is_name(stem: object) -> bool:
    """Return whether a name, with folders or not, means a file in the folder and nowhere else."""
    if not isinstance(stem, str) or not stem or "\0" in stem or "://" in stem:
        return False
    return not stem.startswith("/") and not {"", ".", ".."} & set(stem.split("/"))


def _shown(value: object) -> str:
    return "none" if value in (None, "") else "".join(filter(str.isprintable, str(value)))[:_SHOWN]
