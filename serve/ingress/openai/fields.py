"""Fields of the form beside the file, one by one: those of OpenAI's API, and our own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from asr.config import suggestion
from asr.errors import DataError
from asr.language import is_detected, is_unnamed
from asr.models.processor import LONGEST_PROMPT
from asr.parsed import JsonObject
from asr.printable import printable
from asr.sound import DEFAULT_CHOICE, MAX_INDEX, NAMED, is_index
from asr.transcript import MAX_KEYWORD_CHARACTERS, MAX_KEYWORDS, plain_keywords, require_plain
from serve.errors import ApiError

Format = Literal["json", "text", "verbose_json", "srt", "vtt"]
Granularity = Literal["word", "segment"]

# Ten times what a model reads, so that a client may send the text before as it is; a million take half a second.
MAX_PROMPT_CHARACTERS = 10_000

LISTS = ("timestamp_granularities", "keywords")
"""Fields that clients repeat, as form encoders do, with brackets behind their name or without."""

VAD_SETTINGS = ("type", "prefix_padding_ms", "silence_duration_ms", "threshold")
_SWITCH = {"": False, "false": False, "0": False, "true": True, "1": True}


def unknown(name: str, known: Sequence[str]) -> ApiError:
    """Return what tells a client of a parameter that there is not, and of the nearest that there is."""
    hint = suggestion(name, known)
    return ApiError(
        400, f"unknown parameter '{printable(name)}'" + (f", {hint}" if hint else ""), "unknown_parameter", name
    )


def wrong(name: str, message: str) -> ApiError:
    """Return what tells a client that the value of a parameter is none."""
    return ApiError(400, message, "invalid_value", name)


def _language(value: str) -> str | None:
    return value.strip() if is_detected(value) or not is_unnamed(value) else None


def _keywords(values: Sequence[str]) -> list[str]:
    try:
        return list(plain_keywords(values))
    except DataError as error:
        raise wrong("keywords", f"'keywords' cannot be used: {error.detail}") from None


def _prompt(value: str) -> str:
    text = value.strip()
    if len(text) > MAX_PROMPT_CHARACTERS:
        told = f"the prompt has {len(text):,} characters, the limit is {MAX_PROMPT_CHARACTERS:,}"
        raise wrong("prompt", f"{told}: a model reads its last {LONGEST_PROMPT} tokens only")
    if text:
        try:
            require_plain(text)
        except DataError as error:
            raise wrong("prompt", f"the prompt cannot be used: {error.detail}") from None
    return text


def _temperature(value: str) -> float:
    try:
        temperature = float(value or 0.0)
    except ValueError:
        temperature = math.nan
    if not 0.0 <= temperature <= 1.0:
        raise wrong("temperature", f"'temperature' is a number from 0 to 1, not '{printable(value)}'")
    return temperature


def _format(value: str) -> Format:
    if value == "diarized_json":
        raise ApiError(400, "who speaks is not told apart: choose verbose_json", "unsupported_value", "response_format")
    formats: tuple[Format, ...] = get_args(Format)
    for known in formats:
        if value in (known, ""):
            return known
    hint = suggestion(value, get_args(Format)) or f"choose one of {', '.join(get_args(Format))}"
    raise wrong("response_format", f"unknown response_format '{printable(value)}', {hint}")


def _granularities(values: Sequence[str]) -> list[str]:
    asked = list(filter(None, values))
    for value in asked:
        if value not in get_args(Granularity):
            hint = suggestion(value, get_args(Granularity)) or "choose word, segment or both"
            raise wrong("timestamp_granularities", f"unknown granularity '{printable(value)}', {hint}")
    return asked


def _switch(name: str) -> BeforeValidator:
    def switch(value: str) -> bool:
        if value.lower() not in _SWITCH:
            raise wrong(name, f"'{name}' is true or false, not '{printable(value)}'")
        return _SWITCH[value.lower()]

    return BeforeValidator(switch)


def _track(value: str) -> int | None:
    text = value.strip()
    if text and not is_index(text):
        raise wrong(
            "track", f"'track' is a whole number from 0, not '{printable(value)}': leave it out for the default track"
        )
    return int(text) if text else None


def _channel(value: str) -> str:
    text = value.strip().lower()
    if is_index(text):
        return str(int(text))
    if text and text not in NAMED:
        hint = suggestion(text, NAMED) or f"choose one of {', '.join(NAMED)}, or a number from 0"
        raise wrong("channel", f"unknown channel '{printable(value)}', {hint}")
    return text or DEFAULT_CHOICE.channel


_VAD: JsonObject = {
    "anyOf": [
        {"const": "auto"},
        {
            "type": "object",
            "properties": {"type": {"const": "server_vad"}} | {name: {"type": "number"} for name in VAD_SETTINGS[1:]},
            "additionalProperties": False,
        },
    ]
}
_CHANNEL = rf"^({'|'.join(NAMED)}|\d{{1,3}})$"
_Keyword = Annotated[str, Field(max_length=MAX_KEYWORD_CHARACTERS)]
_Index = Annotated[int, Field(ge=0, le=MAX_INDEX)]


class Fields(BaseModel):
    """The fields beside the file. An empty one asks for its default. A field that is wrong is an ApiError 400.

    Not offered, and refused by name: ``include``, ``languages``, ``known_speaker_names``, ``known_speaker_references``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1)]
    """A model's public name, as `/v1/models` lists them."""
    language: Annotated[str | None, BeforeValidator(_language)] = None
    """The spoken language: a code (`it`), a name or `auto`. Without, it is the model's, or detected."""
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS), BeforeValidator(_prompt)] = ""
    """The text before, or names and spellings to be expected; a model reads the end of it."""
    keywords: Annotated[list[_Keyword], Field(max_length=MAX_KEYWORDS), BeforeValidator(_keywords)] = []
    """Words and phrases to be expected, one a field, of models that take them. Of others `prompt` is the place."""
    temperature: Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_temperature)] = 0.0
    """0 is the likeliest word each time, with a fallback where that goes astray; above it words are drawn."""
    response_format: Annotated[Format, BeforeValidator(_format)] = "json"
    """The shape of the answer; of a stream, what its text is."""
    timestamp_granularities: Annotated[list[Granularity], BeforeValidator(_granularities)] = []
    """Parts with times: segments (the default), words or both. With `verbose_json` alone; repeat the field for both."""
    stream: Annotated[bool, _switch("stream")] = False
    """Send words as server-sent events while later ones are being decoded."""
    chunking_strategy: Annotated[str, WithJsonSchema(_VAD)] = "auto"
    """Accepted as advice: audio is always cut where nobody speaks."""
    language_per_window: Annotated[bool, _switch("language_per_window")] = False
    """Detect the language of each window of speech rather than of the recording; without `language`."""
    track: Annotated[_Index | None, BeforeValidator(_track)] = None
    """Audio track of a file, from 0; by default the one that the file marks as default."""
    channel: Annotated[str, Field(pattern=_CHANNEL), BeforeValidator(_channel)] = DEFAULT_CHOICE.channel
    """Channel of the track: its name, its number from 0, all mixed, or each on its own."""

    @model_validator(mode="after")
    def _agree(self) -> Fields:
        if self.language_per_window and not is_unnamed(self.language):
            told = f"'language_per_window' detects languages, but 'language' is '{printable(self.language or '')}'"
            raise wrong("language_per_window", told)
        if self.timestamp_granularities and self.response_format != "verbose_json":
            name = "timestamp_granularities"
            raise wrong(name, f"'{name}' needs response_format=verbose_json, not {self.response_format}")
        return self
