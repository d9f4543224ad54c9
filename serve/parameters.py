"""The parameters of a request beside its file: each read, checked, and refused by name where it cannot be honoured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from asr.config import suggestion
from asr.errors import DataError, UserError
from asr.labels import MAX_PREVIOUS_TOKENS, Task, spoken
from asr.language import is_unnamed
from asr.printable import printable
from asr.sound import DEFAULT_CHOICE, EACH, NAMED, SoundChoice, is_index
from serve.engine import ModelInfo
from serve.errors import ApiError
from serve.request import Asked, check_task, spoken_language

Format = Literal["json", "text", "verbose_json", "srt", "vtt"]
Granularity = Literal["word", "segment"]

# Ten times what a model reads, so that a client may send the text before as it is; a million take half a second.
MAX_PROMPT_CHARACTERS = 10_000

# A client that asks for more than there is is told so: ignoring it would give answers to another question.
_NOT_OFFERED = {
    "include": "verbose_json has avg_logprob of each segment",
    "keywords": "write the words into 'prompt'",
    "languages": "give one 'language', or none to have it detected",
    "known_speaker_names": "who speaks is not told apart",
    "known_speaker_references": "who speaks is not told apart",
}
_KNOWN = (
    "file",
    "model",
    "language",
    "prompt",
    "temperature",
    "response_format",
    "timestamp_granularities",
    "stream",
    "chunking_strategy",
    "language_per_window",
    "track",
    "channel",
)
_SWITCH = {"": False, "false": False, "0": False, "true": True, "1": True}
_VAD_SETTINGS = ("type", "prefix_padding_ms", "silence_duration_ms", "threshold")


@dataclass(frozen=True)
class Parameters:
    """What a client asks for, as OpenAI's API names it. ``language`` is still as the client wrote it.

    ``language_per_window`` is ours: languages change within the recording, so detect one for each window of speech
    rather than one for all (``extra_body={"language_per_window": True}`` in the official client). So is ``sound``, its
    fields ``track`` and ``channel``: which sound of a file that holds more than one.
    """

    model: str
    language: str | None = None
    prompt: str = ""
    temperature: float = 0.0
    response_format: Format = "json"
    granularities: frozenset[Granularity] = frozenset()
    stream: bool = False
    language_per_window: bool = False
    sound: SoundChoice = DEFAULT_CHOICE


def read_parameters(pairs: Iterable[tuple[str, str]]) -> Parameters:
    """Read the fields of a form, as (name, value) in their order. Raises ApiError 400 naming the one that is wrong."""
    lists: dict[str, list[str]] = {}
    for key, value in pairs:
        name = _name(key)
        # Clients repeat the key of a list as form encoders do, with [] or without.
        if name in lists and not key.endswith("]") and name != "timestamp_granularities":
            raise _wrong(name, f"'{name}' must be given once")
        lists.setdefault(name, []).append(value)
    fields = {name: values[-1] for name, values in lists.items()}
    if not fields.get("model"):
        raise ApiError(400, "there is no 'model'", "missing_value", "model")
    response_format = _format(fields.get("response_format", ""))
    language = None if is_unnamed(fields.get("language")) else fields["language"].strip()
    per_window = _switch(fields, "language_per_window")
    if per_window and language:
        raise _wrong(
            "language_per_window", f"'language_per_window' detects languages, but 'language' is '{printable(language)}'"
        )
    return Parameters(
        model=fields["model"],
        language=language,
        prompt=_prompt(fields.get("prompt", "")),
        temperature=_temperature(fields.get("temperature", "")),
        response_format=response_format,
        granularities=_granularities(lists.get("timestamp_granularities", []), response_format),
        stream=_switch(fields, "stream"),
        language_per_window=per_window,
        sound=SoundChoice(_track(fields.get("track", "")), _channel(fields.get("channel", ""))),
    )


def asked_of(model: ModelInfo, parameters: Parameters, task: Task) -> Asked:
    """Return what each window is asked. Raises ApiError 400 where the model cannot do it."""
    try:
        check_task(task, model)
    except UserError as error:
        raise ApiError(400, str(error), "unsupported_model", "model") from None
    try:
        language = spoken_language(parameters.language, model)
    except UserError as error:
        raise ApiError(400, str(error), "invalid_language", "language") from None
    if parameters.language_per_window and model.languages != {"en"}:
        language = None
    return Asked(
        language=language,
        language_per_window=parameters.language_per_window,
        task=task,
        prompt=parameters.prompt,
        temperature=parameters.temperature,
        timestamps=parameters.response_format in ("srt", "vtt")
        or "segment" in parameters.granularities
        or parameters.sound.channel == EACH,  # channels are put in order by the times of what was said
        words="word" in parameters.granularities,
    )


def _name(key: str) -> str:
    """Return the parameter of a form's key: ``include[]`` and ``chunking_strategy[type]`` have brackets."""
    name, bracket, inner = key.partition("[")
    if name in _NOT_OFFERED:
        raise ApiError(400, f"'{name}' is not offered: {_NOT_OFFERED[name]}", "unsupported_value", name)
    if name not in _KNOWN:
        raise _unknown(name, _KNOWN)
    if name == "chunking_strategy" and bracket and (setting := inner.removesuffix("]")) not in _VAD_SETTINGS:
        raise _unknown(setting, _VAD_SETTINGS)
    return name


def _unknown(name: str, known: Sequence[str]) -> ApiError:
    hint = suggestion(name, known)
    return ApiError(
        400, f"unknown parameter '{printable(name)}'" + (f", {hint}" if hint else ""), "unknown_parameter", name
    )


def _wrong(name: str, message: str) -> ApiError:
    return ApiError(400, message, "invalid_value", name)


def _format(value: str) -> Format:
    if value == "diarized_json":
        raise ApiError(400, "who speaks is not told apart: choose verbose_json", "unsupported_value", "response_format")
    for known in get_args(Format):
        if value in (known, ""):
            return known
    hint = suggestion(value, get_args(Format)) or f"choose one of {', '.join(get_args(Format))}"
    raise _wrong("response_format", f"unknown response_format '{printable(value)}', {hint}")


def _switch(fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "")
    if value.lower() not in _SWITCH:
        raise _wrong(name, f"'{name}' is true or false, not '{printable(value)}'")
    return _SWITCH[value.lower()]


def _track(value: str) -> int | None:
    text = value.strip()
    if text and not is_index(text):
        raise _wrong(
            "track", f"'track' is a whole number from 0, not '{printable(value)}': leave it out for the default track"
        )
    return int(text) if text else None


def _channel(value: str) -> str:
    text = value.strip().lower()
    if is_index(text):
        return str(int(text))
    if text and text not in NAMED:
        hint = suggestion(text, NAMED) or f"choose one of {', '.join(NAMED)}, or a number from 0"
        raise _wrong("channel", f"unknown channel '{printable(value)}', {hint}")
    return text or DEFAULT_CHOICE.channel


def _temperature(value: str) -> float:
    try:
        temperature = float(value or 0.0)
    except ValueError:
        temperature = math.nan
    if not 0.0 <= temperature <= 1.0:
        raise _wrong("temperature", f"'temperature' is a number from 0 to 1, not '{printable(value)}'")
    return temperature


def _prompt(value: str) -> str:
    text = value.strip()
    if len(text) > MAX_PROMPT_CHARACTERS:
        told = f"the prompt has {len(text):,} characters, the limit is {MAX_PROMPT_CHARACTERS:,}"
        raise _wrong("prompt", f"{told}: a model reads its last {MAX_PREVIOUS_TOKENS} tokens only")
    if text:
        try:
            spoken(text)
        except DataError as error:
            raise _wrong("prompt", f"the prompt cannot be used: {error.detail}") from None
    return text


def _granularities(values: Sequence[str], response_format: Format) -> frozenset[Granularity]:
    name = "timestamp_granularities"
    asked: set[Granularity] = set()
    for value in filter(None, values):
        for known in get_args(Granularity):
            if value == known:
                asked.add(known)
                break
        else:
            hint = suggestion(value, get_args(Granularity)) or "choose word, segment or both"
            raise _wrong(name, f"unknown granularity '{printable(value)}', {hint}")
    if response_format != "verbose_json":
        if asked:
            raise _wrong(name, f"'{name}' needs response_format=verbose_json, not {response_format}")
        return frozenset()
    return frozenset(asked) or frozenset({"segment"})
