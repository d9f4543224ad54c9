"""Manifests: JSONL with the field names of NVIDIA NeMo, and the table of the rows that could not be used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from asr.data.transcript_cell import told, transcript
from asr.errors import DataError, UserError
from asr.io import storage
from asr.io.address import plain
from asr.io.roots import Roots
from asr.parsed import JsonObject
from asr.sound import AUTO, SoundChoice
from asr.utterance import Quarantined, Utterance

_QUARANTINE = pa.schema([("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


def _said(value: object) -> str:
    try:
        return transcript(value)
    except DataError as fault:
        raise ValueError(f"{fault.reason}: {fault.detail}") from None


_Told = BeforeValidator(told)


class _Row(BaseModel):
    """A manifest line as NeMo writes it; keys without a field here end up in ``Utterance.meta``."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, coerce_numbers_to_str=True)

    audio_filepath: str = Field(min_length=1)
    text: Annotated[str, BeforeValidator(_said)] = ""
    duration: float | None = Field(None, ge=0)
    offset: float | None = Field(None, ge=0)
    lang: Annotated[str | None, _Told] = None
    speaker: Annotated[str | None, _Told] = None
    id: Annotated[str | None, Field(min_length=1), _Told] = None
    audio_track: int | None = None
    audio_channel: str = AUTO

    @model_validator(mode="after")
    def _possible(self) -> _Row:
        try:
            SoundChoice(self.audio_track, self.audio_channel)
        except UserError as error:
            raise ValueError(error.message) from None
        return self


def read_manifest(path: Path | str, texts: bool = True, audio_roots: Sequence[str] = ()) -> list[Utterance]:
    """Return the rows of a JSONL manifest at a path or URI. Relative audio paths are relative to the manifest's folder.
    Audio lies in that folder or in one of ``audio_roots``, which a person has chosen: see ``asr.io.roots``.

    ``offset`` and ``duration`` together cut a stretch out of the recording; ``duration`` alone only tells its length.
    A row without ``id`` gets one from its audio path (``./a.flac`` is ``a.flac``), its offset, and the track and
    channel that it chooses. All of the file is read before anything is returned, so that a faulty line is known
    before any work begins: a missing or empty file, a line that is not a JSON object with valid fields, a transcript
    that is not text (NaN, as pandas writes it), audio that lies elsewhere, or an id that occurs twice raises UserError
    with the line number. Where ``texts`` are not asked for, they are empty, whatever is there, and rows may be alike.
    """
    rows: list[Utterance] = []
    lines: dict[str, int] = {}
    roots = Roots(storage.parent(path), audio_roots)
    with storage.open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _utterance(_parse(line, f"{path}:{number}", texts), roots, f"{path}:{number}")
            if texts and row.id in lines:
                raise UserError(f"{path}: id '{row.id}' is on line {lines[row.id]} and on line {number}")
            lines[row.id] = number
            rows.append(row)
    if not rows:
        raise UserError(f"{path}: the manifest holds no rows")
    return rows


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a JSONL manifest that ``read_manifest`` reads back as equal rows; the file appears whole or not at all.

    Times are rounded to microseconds. Audio inside the manifest's folder is written relative to it, so that the folder
    can be moved. ValueError for audio that is bytes, and for a ``meta`` key that is a field's name.
    """
    with storage.whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for utterance in utterances:
            row = _row(utterance, path.parent)
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_quarantine(path: Path, rows: Iterable[Quarantined]) -> None:
    """Write a Parquet table with the string columns id, reason, detail; it appears whole or not at all."""
    columns = list(zip(*map(astuple, rows), strict=True)) or [(), (), ()]
    with storage.whole(path) as temporary:
        pq.write_table(pa.table([list(column) for column in columns], schema=_QUARANTINE), temporary)


def json_object(line: str, where: str) -> JsonObject:
    """Return the JSON object on a line. Raises UserError, which begins with ``where``, for anything else."""
    try:
        data = json.loads(line)
        if "\\ud" in line.lower():  # JSON can spell half a surrogate pair, which no file can hold: find it now
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # objects in objects, a thousand deep
        raise UserError(f"{where}: not JSON: {error}", "a manifest has one JSON object on each line") from None
    if not isinstance(data, dict):
        raise UserError(f"{where}: holds a JSON {type(data).__name__}, not an object")
    return data


def _parse(line: str, where: str, texts: bool) -> _Row:
    data = json_object(line, where)
    if not texts:
        data.pop("text", None)
    try:
        return _Row.model_validate(data)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise UserError(f"{where}: {'; '.join(faults)}") from None


def _utterance(row: _Row, roots: Roots, where: str) -> Utterance:
    audio = plain(row.audio_filepath)
    try:
        address = roots.address(audio)
    except DataError as fault:
        raise UserError(f"{where}: {fault.detail}") from None
    offset = row.offset
    sound = SoundChoice(row.audio_track, row.audio_channel)
    return Utterance(
        id=row.id or f"{audio}{'' if offset is None else f'@{offset:g}'}{sound.label}",
        audio=address,
        text=row.text,
        duration_s=row.duration,
        language=row.lang,
        speaker=row.speaker,
        start_s=offset or 0.0,
        end_s=None if offset is None or row.duration is None else round(offset + row.duration, 6),
        meta=dict(row.model_extra or {}),
        sound=sound,
    )


def _row(utterance: Utterance, folder: Path) -> dict[str, object]:
    if isinstance(utterance.audio, bytes):
        raise ValueError(f"{utterance.id}: audio bytes cannot be named in a manifest")
    clash = sorted(set(utterance.meta) & set(_Row.model_fields))
    if clash:
        raise ValueError(f"{utterance.id}: meta holds the manifest's own field {', '.join(clash)}")
    stretch = utterance.end_s is not None or utterance.start_s > 0
    length = utterance.duration_s if utterance.end_s is None else utterance.end_s - utterance.start_s
    fields: dict[str, object] = {
        "id": utterance.id,
        "audio_filepath": _relative(utterance.audio, folder),
        "text": utterance.text,
        "duration": None if length is None else round(length, 6),
        "offset": round(utterance.start_s, 6) if stretch else None,
        "lang": utterance.language,
        "speaker": utterance.speaker,
        "audio_track": utterance.sound.track,
        "audio_channel": None if utterance.sound.channel == AUTO else utterance.sound.channel,
    }
    return {key: value for key, value in fields.items() if value is not None} | utterance.meta


def _relative(audio: str, folder: Path) -> str:
    if "://" in audio:
        return audio
    path, folder = Path(os.path.abspath(audio)), Path(os.path.abspath(folder))
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
