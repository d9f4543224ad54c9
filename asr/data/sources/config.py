"""Configuration of one source of labelled speech."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from asr.config import Section, suggestion
from asr.errors import UserError
from asr.language import code
from asr.places import Place
from asr.sound import AUTO, SoundChoice

Format = Literal[
    "auto",
    "manifest",
    "common_voice",
    "csv",
    "audiofolder",
    "parquet",
    "webdataset",
    "huggingface",
    "prompts",
]

FIELDS = (
    *("id", "audio", "text", "duration_s", "language", "speaker", "start_s", "end_s", "segments"),
    *("track", "channel"),
)


class SourceConfig(Section):
    """A source of speech and its transcripts. A plain string stands for a source with nothing else set."""

    source: Place
    """A file, a folder, an address (``s3://``, ``gs://``, ``hf://``), ``hf:owner/name`` or ``prompts:it``."""
    format: Format = "auto"
    """Format of the source; ``auto`` detects it."""
    config: str | None = None
    """Configuration of a Hugging Face data set, often a language."""
    split: str | None = None
    """Part of a data set that has parts: ``train``, ``validation``, ``test``."""
    streaming: bool = False
    """Hugging Face data sets only: read once and in order, with nothing stored."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of this source's columns where they are unusual: ours (id, audio, text, duration_s, language, speaker,
    start_s, end_s, segments, track, channel) to theirs; in a table without a header by number
    from 1: ``{audio: 1, text: 3}``."""
    audio_roots: list[Place] = Field(default_factory=list)
    """Folders or addresses where the audio lies that the rows name, beside the source's own folder; what they name
    elsewhere is quarantined as address_not_allowed."""
    delimiter: str | None = None
    """Separator of a table's cells, such as ``;`` or ``tab``; by default the one that fits: a comma, semicolon, tab or
    vertical bar."""
    header: bool | None = None
    """The first line of a table names its columns; detected by default."""
    language: str | None = None
    """Language of every row, whatever the source says. Whisper needs it for a language that it has no token for."""
    track: int | None = None
    """Audio track of files that have several, from 0; the one that the container marks as its default otherwise."""
    channel: str = AUTO
    """``mix``, ``left``, ``right``, a number from 0, or ``each``: every channel is an utterance with the row's
    transcript, as of several microphones. ``auto`` mixes, and takes one where the channels cancel each other."""
    weight: float | None = Field(None, gt=0)
    """Share of this source in a mixture, relative to the other sources' weights."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: object) -> object:
        return {"source": data} if isinstance(data, str) else data

    @field_validator("columns", mode="before")
    @classmethod
    def _numbers_are_names(cls, columns: object) -> object:
        if not isinstance(columns, dict):
            return columns
        return {field: str(name) if type(name) is int else name for field, name in columns.items()}

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter)
        if delimiter is not None and (len(delimiter) != 1 or delimiter.isalnum() or delimiter in '"\r\n'):
            raise ValueError("must be one character such as ';' or '|', or tab")
        return delimiter

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        for field in columns:
            if field not in FIELDS:
                hint = suggestion(field, FIELDS) or f"there are {', '.join(FIELDS)}"
                raise ValueError(f"'{field}' is no field of an utterance ({hint})")
        return columns

    @field_validator("track")
    @classmethod
    def _possible_track(cls, track: int | None) -> int | None:
        return cls._possible(track=track).track

    @field_validator("channel", mode="before")
    @classmethod
    def _possible_channel(cls, channel: object) -> str:
        return cls._possible(channel=str(channel)).channel  # YAML reads 1 as a number

    @classmethod
    def _possible(cls, track: int | None = None, channel: str = AUTO) -> SoundChoice:
        try:
            return SoundChoice(track, channel)
        except UserError as error:
            raise ValueError(error.message) from None

    @property
    def sound(self) -> SoundChoice:
        """The track and channel of each row that does not choose its own."""
        return SoundChoice(self.track, self.channel)

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str | None) -> str | None:
        try:
            return None if language is None else code(language)
        except UserError as error:
            raise ValueError(str(error)) from None
