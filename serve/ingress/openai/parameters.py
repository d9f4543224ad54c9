"""The parameters of a request beside its file: each read, checked, and refused by name where it cannot be honoured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodingOptions, check_abilities, spoken_language
from asr.sound import DEFAULT_CHOICE, EACH, SoundChoice
from asr.transcript import Task
from serve.errors import ApiError
from serve.ingress.openai.fields import (
    LISTS,
    MAX_PROMPT_CHARACTERS,
    VAD_SETTINGS,
    Fields,
    Format,
    Granularity,
    unknown,
    wrong,
)

__all__ = ["MAX_PROMPT_CHARACTERS", "Format", "Granularity", "Parameters", "options_of", "read_parameters"]

# A client that asks for more than there is is told so: ignoring it would give answers to another question.
_NOT_OFFERED = {
    "include": "verbose_json has avg_logprob of each segment",
    "languages": "give one 'language', or none to have it detected",
    "known_speaker_names": "who speaks is not told apart",
    "known_speaker_references": "who speaks is not told apart",
}
_KNOWN = ("file", *Fields.model_fields)


@dataclass(frozen=True)
class Parameters:
    """Parameters of a request, as OpenAI's API names them. ``language`` is still as the client wrote it.

    ``language_per_window`` is ours: languages change within the recording, so detect one for each window of speech
    rather than one for all (``extra_body={"language_per_window": True}`` in the official client). So is ``sound``, its
    fields ``track`` and ``channel``: the choice in a file that has several.
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
    keywords: tuple[str, ...] = ()


def read_parameters(pairs: Iterable[tuple[str, str]]) -> Parameters:
    """Read the fields of a form, as (name, value) in their order. Raises ApiError 400 naming the one that is wrong."""
    lists: dict[str, list[str]] = {}
    for key, value in pairs:
        name = _name(key)
        if name in lists and not key.endswith("]") and name not in LISTS:
            raise wrong(name, f"'{name}' must be given once")
        lists.setdefault(name, []).append(value)
    if not lists.get("model", [""])[-1]:
        raise ApiError(400, "there is no 'model'", "missing_value", "model")
    given = {name: values if name in LISTS else values[-1] for name, values in lists.items() if name != "file"}
    try:
        fields = Fields.model_validate(given)
    except ValidationError as error:  # what is no text at all: everything else has words of its own
        name = str(error.errors()[0]["loc"][0])
        raise wrong(name, f"'{name}' cannot be read") from None
    verbose = fields.response_format == "verbose_json"
    return Parameters(
        model=fields.model,
        language=fields.language,
        prompt=fields.prompt,
        temperature=fields.temperature,
        response_format=fields.response_format,
        granularities=frozenset(fields.timestamp_granularities or (["segment"] if verbose else [])),
        stream=fields.stream,
        language_per_window=fields.language_per_window,
        sound=SoundChoice(fields.track, fields.channel),
        keywords=tuple(fields.keywords),
    )


def options_of(model: ModelInfo, parameters: Parameters, task: Task) -> DecodingOptions:
    """Return what each window is asked. Raises ApiError 400 where the model cannot do it."""
    asked = DecodingOptions(
        language_per_window=parameters.language_per_window,
        task=task,
        prompt=parameters.prompt,
        temperature=parameters.temperature,
        timestamps=parameters.response_format in ("srt", "vtt")
        or "segment" in parameters.granularities
        or parameters.sound.channel == EACH,  # channels are put in order by the times of what was said
        words="word" in parameters.granularities,
        keywords=parameters.keywords,
    )
    try:
        check_abilities(asked, model)
    except UserError as error:
        raise ApiError(400, str(error), "unsupported_model", "model") from None
    try:
        language = spoken_language(parameters.language, model)
    except UserError as error:
        raise ApiError(400, str(error), "invalid_language", "language") from None
    if parameters.language_per_window and len(model.languages) > 1:
        language = None
    return replace(asked, language=language)


def _name(key: str) -> str:
    """Return the parameter of a form's key: ``include[]`` and ``chunking_strategy[type]`` have brackets."""
    name, bracket, inner = key.partition("[")
    if name in _NOT_OFFERED:
        raise ApiError(400, f"'{name}' is not offered: {_NOT_OFFERED[name]}", "unsupported_value", name)
    if name not in _KNOWN:
        raise unknown(name, _KNOWN)
    if name == "chunking_strategy" and bracket and (setting := inner.removesuffix("]")) not in VAD_SETTINGS:
        raise unknown(setting, VAD_SETTINGS)
    return name
