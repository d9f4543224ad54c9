"""Turns a row with any column names into an utterance, or quarantines it: names and values are checked only here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import SupportsFloat, SupportsInt, cast

from asr import language
from asr.config import suggestion
from asr.data.sources.config import SourceConfig
from asr.data.transcript_cell import told, transcript
from asr.errors import DataError, UserError
from asr.io.roots import Roots
from asr.parsed import JsonObject
from asr.sound import AUTO, DEFAULT_CHOICE, SoundChoice
from asr.utterance import Quarantined, Utterance

# Names that published data sets use, the surer ones first.
USUAL: Mapping[str, Sequence[str]] = {
    "id": ("id", "utterance_id", "utt_id", "__key__"),
    "audio": (
        *("audio", "audio_filepath", "audio_path", "audio_file", "file_name", "filename", "file", "path"),
        *("wav_filename", "wav", "flac", "mp3", "clip"),
    ),
    "text": ("text", "transcript", "transcription", "sentence", "txt", "normalized_text", "raw_text", "label"),
    "duration_s": ("duration_s", "duration", "seconds", "audio_length"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "start_s": ("start_s", "start", "offset", "begin_time", "start_time"),
    "end_s": ("end_s", "end", "end_time"),
    "segments": ("segments",),
    "track": ("audio_track",),
    "channel": ("audio_channel",),
}

# A manifest's own fields: a foreign column of such a name goes into ``meta`` under another one.
RESERVED = frozenset(
    {"id", "audio_filepath", "text", "duration", "offset", "lang", "speaker", "audio_track", "audio_channel"}
)


MAX_NAME = 4096  # characters of an id, and of a file's name: no file system has longer ones
MAX_TEXT = 1 << 20  # characters of a transcript: days of speech


@dataclass(frozen=True)
class ColumnMap:
    """Map from fields of an utterance to table columns; all other columns go to ``meta``."""

    names: Mapping[str, str]
    language: str | None
    """The code that every row gets, None where the rows say it themselves."""
    chosen: frozenset[str] = frozenset()
    """Fields whose column the person named, so that nothing about it is guessed."""
    roots: tuple[str, ...] = ()
    """Folders beside the table's own in which a row's audio may lie."""

    def value(self, row: Mapping[str, object], field: str) -> object:
        """Return what a row holds for one of our fields; None where it is empty."""
        name = self.names.get(field)  # a column without a name, as pandas writes its index, is none of ours
        value = None if name is None else row.get(name)
        return None if value == "" else value


def choose(
    config: SourceConfig, available: Sequence[str], uri: str, needed: Sequence[str], hint: str = ""
) -> ColumnMap:
    """Decide which of the ``available`` columns hold our fields: those that the person named, then usual names.

    ``uri`` is the file or data set that errors name. Raises UserError if a named column or a ``needed`` field is not
    there; ``hint`` says what else than its name may be wrong.
    """
    listed = f"its columns are {', '.join(map(str, available)) or 'none'}"
    for field, name in config.columns.items():
        if name not in available:
            near = suggestion(name, available)
            raise UserError(f"{uri}: no column '{name}' for {field}: {listed}", near)
    columns = _guess(config, available)
    for field in needed:
        if field not in columns.names:
            raise UserError(
                f"{uri}: no column for {field}: {listed}",
                f"name it: columns: {{{field}: NAME}} or --column {field}=NAME{hint}",
            )
    return columns


FIRST_ROWS = 100  # of which one must have what is needed


class Chooser:
    """The columns of rows that need not all have the same ones, as in JSON: known for each set of names.

    One of the first rows must have what is named and needed; another that has not is judged as a row.
    """

    def __init__(self, config: SourceConfig, uri: str, needed: Sequence[str], hint: str = "") -> None:
        self.config, self.uri, self.needed, self.hint = config, uri, needed, hint
        self.known: dict[tuple[str, ...], ColumnMap] = {}
        self.fits = False
        self.faults: list[tuple[int, UserError]] = []  # of the rows before the first that fits, with their widths

    def columns(self, available: Sequence[str]) -> ColumnMap:
        """Return the columns of a row. Raises UserError as from ``choose`` if none of the first rows has them."""
        names = tuple(available)
        if not self.fits:
            self._try(names)
        if names not in self.known:
            self.known[names] = _guess(self.config, names)
        return self.known[names]

    def require(self) -> None:
        """Raise UserError, about the row with most columns, where there were rows and none had what is needed."""
        if self.faults and not self.fits:
            raise max(self.faults, key=lambda fault: fault[0])[1]

    def _try(self, names: tuple[str, ...]) -> None:
        try:
            choose(self.config, names, self.uri, self.needed, self.hint)
            self.fits = True
        except UserError as error:
            self.faults.append((len(names), error))
            if len(self.faults) == FIRST_ROWS:
                self.require()


def _guess(config: SourceConfig, available: Sequence[str]) -> ColumnMap:
    """The named columns as far as they are there, and columns of usual names for the fields that were not named."""
    names = {field: name for field, name in config.columns.items() if name in available}
    taken = set(names.values())
    lowered = {str(name).lower(): name for name in reversed(available)}
    for field, usual in USUAL.items():
        found = next((lowered[name] for name in usual if name in lowered and lowered[name] not in taken), None)
        if field not in config.columns and found is not None:
            names[field] = found
            taken.add(found)
    return ColumnMap(names, config.language, frozenset(config.columns), (config.source, *config.audio_roots))


def utterance(
    row: Mapping[str, object], columns: ColumnMap, default_id: str, audio: str | bytes | None = None, folder: str = ""
) -> Utterance | Quarantined:
    """Return a row as an utterance, or quarantined with the reason.

    Reasons are missing_audio, address_not_allowed, no_transcript, not_text, unknown_language, bad_number, bad_channel,
    bad_segments, and malformed_row with whatever else is wrong with it.

    A transcript that is empty text says that nobody speaks; one that is null or not there, that nobody has written it.

    ``audio`` is an address or bytes where the row's own column does not name a file; a name there is relative to
    ``folder``. The row's id is its text in the id column: a bare number counts sentences in some data sets (FLEURS),
    so that it is only taken where the person named that column.
    """
    id = told(columns.value(row, "id"))
    id = str(id) if isinstance(id, str) or (id is not None and "id" in columns.chosen) else default_id
    try:
        return _utterance(row, columns, id, audio, folder)
    except DataError as fault:
        return Quarantined(id, fault.reason, fault.detail)
    except Exception as error:  # whatever a stranger's cell does to a library, it is this row's and ends no run
        return Quarantined(id, "malformed_row", f"{type(error).__name__}: {error}")


def _utterance(
    row: Mapping[str, object], columns: ColumnMap, id: str, audio: str | bytes | None, folder: str
) -> Utterance:
    named = columns.value(row, "audio") if audio is None else audio
    start_s, end_s, duration_s = _times(*(_number(row, columns, name) for name in ("start_s", "end_s", "duration_s")))
    if not isinstance(named, str | bytes):
        raise DataError("missing_audio", "the row names no audio")
    for name in (id, named) if isinstance(named, str) else (id,):
        if len(name) > MAX_NAME:
            raise DataError("malformed_row", f"an id or a file's name of over {MAX_NAME:,} characters")
        name.encode()  # UnicodeEncodeError of what stands for a byte that is no text: no manifest could name it
    sound = _sound(columns.value(row, "track"), columns.value(row, "channel"))
    part = sound.label if start_s is None else f"@{start_s:g}{sound.label}"
    is_name = isinstance(named, str) and audio is None
    return Utterance(
        id=id if told(columns.value(row, "id")) is not None else f"{id}{part}",
        audio=Roots(folder, columns.roots).address(str(named)) if is_name else named,
        text=_transcript(row, columns),
        duration_s=duration_s,
        language=columns.language or _language(columns.value(row, "language")),
        speaker=_optional_text(columns.value(row, "speaker")),
        start_s=start_s or 0.0,
        end_s=end_s,
        meta=_meta(row, columns),
        sound=sound,
    )


def _transcript(row: Mapping[str, object], columns: ColumnMap) -> str:
    name = columns.names.get("text")
    value = None if name is None else row.get(name)
    if value is None and columns.value(row, "segments") is None:  # those have the words
        what = "the row has no transcript" if name is None or name not in row else f"{name} is null"
        raise DataError("no_transcript", f"{what}: of a clip in which nobody speaks it is an empty text")
    return _text(value)


def _text(value: object) -> str:
    text = transcript(value)
    if len(text) > MAX_TEXT:
        raise DataError("malformed_row", f"a transcript of {len(text):,} characters, over {MAX_TEXT:,}")
    return text


def _optional_text(value: object) -> str | None:
    return None if told(value) is None else str(value)


def _number(row: Mapping[str, object], columns: ColumnMap, field: str) -> float | None:
    value = columns.value(row, field)
    if value is None:
        return None
    try:
        number = float(cast(SupportsFloat, value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    else:
        if math.isnan(number):
            return None  # what pandas writes where there is none
    if not (math.isfinite(number) and number >= 0):
        raise DataError("bad_number", f"{columns.names[field]} is {value!r}")
    return number


def _times(
    start_s: float | None, end_s: float | None, duration_s: float | None
) -> tuple[float | None, float | None, float | None]:
    """``start`` and ``duration`` together cut a stretch out, as in NeMo's manifests; ``duration`` alone is a length."""
    if start_s is not None and end_s is None and duration_s is not None:
        end_s = round(start_s + duration_s, 6)
    if end_s is not None:
        if end_s <= (start_s or 0.0):
            raise DataError("bad_number", f"ends at {end_s:g} s and begins at {start_s or 0.0:g} s")
        duration_s = round(end_s - (start_s or 0.0), 6)
    return start_s, end_s, duration_s


def _sound(track: object, channel: object) -> SoundChoice:
    if track is None and channel is None:
        return DEFAULT_CHOICE
    try:
        return SoundChoice(
            None if track is None else int(cast(SupportsInt, track)), AUTO if channel is None else str(channel)
        )
    except (TypeError, ValueError, OverflowError, UserError) as error:
        raise DataError("bad_channel", f"track {track!r}, channel {channel!r}: {error}") from None


def _language(value: object) -> str | None:
    return None if told(value) is None or language.is_unnamed(str(value)) else _language_code(str(value))


@lru_cache(maxsize=4096)
def _language_code(name: str) -> str:
    try:
        return language.code(name)
    except UserError as error:
        raise DataError("unknown_language", str(error)) from None


def _meta(row: Mapping[str, object], columns: ColumnMap) -> JsonObject:
    taken = set(columns.names.values())
    meta = {
        (f"source_{name}" if name in RESERVED else name): value
        for name, value in row.items()
        if name not in taken and _is_scalar(value)
    }
    segments = columns.value(row, "segments")
    return meta if segments is None else meta | {"segments": _segments(segments)}


def _is_scalar(value: object) -> bool:
    """Return whether a cell is a JSON scalar that somebody may filter by. An empty cell tells nothing."""
    return isinstance(value, bool | int) or (isinstance(value, str) and value != "") or _is_finite(value)


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _segments(value: object) -> list[dict[str, object]]:
    """Segments as ``[{"start": s, "end": s, "text": "..."}]``, from such a list or from its JSON text."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else cast("list[JsonObject]", value)
        found = [{"start": float(s["start"]), "end": float(s["end"]), "text": _text(s["text"])} for s in parsed]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError("bad_segments", f"not a list of start, end and text: {error!r}") from None
    if not all(math.isfinite(float(s["start"])) and math.isfinite(float(s["end"])) for s in parsed):
        raise DataError("bad_segments", "a time of one is no number")
    return found
