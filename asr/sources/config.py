"""One source of labelled speech, described in one place."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from asr.config import Section, suggestion
from asr.errors import UserError
from asr.language import code
from asr.places import Place

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

FIELDS = ("id", "audio", "text", "duration_s", "language", "speaker", "start_s", "end_s", "segments")


class SourceConfig(Section):
    """Where speech and its transcripts come from. A plain string stands for a source with nothing else set."""

    source: Place
    """A file, a folder, an address (``s3://``, ``gs://``, ``hf://``), ``hf:owner/name`` or ``prompts:it``."""
    format: Format = "auto"
    """What is there; ``auto`` looks."""
    config: str | None = None
    """Configuration of a Hugging Face data set, often a language."""
    split: str | None = None
    """Part of a data set that has parts: ``train``, ``validation``, ``test``."""
    streaming: bool = False
    """Hugging Face data sets only: read once and in order, with nothing stored."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of this source's columns where they are unusual: ours (id, audio, text, duration_s, language, speaker,
    start_s, end_s, segments) to theirs."""
    language: str | None = None
    """Language of every row, whatever the source says; needed for languages that Whisper has no token for."""
    weight: float | None = Field(None, gt=0)
    """Share of this source in a mixture, relative to the other sources' weights."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        return {"source": data} if isinstance(data, str) else data

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        for field in columns:
            if field not in FIELDS:
                hint = suggestion(field, FIELDS) or f"there are {', '.join(FIELDS)}"
                raise ValueError(f"'{field}' is no field of an utterance ({hint})")
        return columns

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str | None) -> str | None:
        try:
            return None if language is None else code(language)
        except UserError as error:
            raise ValueError(str(error)) from None
