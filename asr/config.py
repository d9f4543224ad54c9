"""Configuration: sections with strict keys, all mistakes reported at once, and where each value came from."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Generic, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from asr.errors import RenamedWarning, UserError, one_line
from asr.parsed import JsonObject
from asr.places import settled
from asr.secret_words import may_be_told


class Renamed(NamedTuple):
    """The name that a key has now, and the names of its values, where both were others in the version before."""

    key: str
    values: Mapping[str, str] = MappingProxyType({})


class Section(BaseModel):
    """Base of every configuration model. A docstring under a field is its help text; units are in the names."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    renamed: ClassVar[Mapping[str, Renamed]] = MappingProxyType({})
    """Keys by their names of the version before, which are still read, with a warning."""


S = TypeVar("S", bound=Section)

_COMMAND_LINE = "command line"
_LONGEST_WORD = 200


class _Loader(yaml.SafeLoader):
    """Reads ``no`` as Norwegian and ``2026-01-02`` as a name: words that YAML 1.1 makes a boolean and a date.

    Fields that are booleans still take yes, no, on and off: pydantic knows these words.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?i:true|false)$"), list("tTfF"))


@dataclass(frozen=True)
class Resolved(Generic[S]):
    """A validated configuration, and for each dotted key the origin of its value."""

    value: S
    origin: dict[str, str]

    def rows(self) -> Iterator[tuple[str, object, str]]:
        """Yield (dotted key, value, origin) of each leaf, in the order of the model."""
        for key, value in _leaves(self.value.model_dump(mode="json")):
            yield key, value, self._from(key)

    def _from(self, key: str) -> str:
        """A validator may have made a section of a word, as of ``data.train``, or one value of a mapping."""
        if key in self.origin:
            return self.origin[key]
        near = (place for k, place in self.origin.items() if _is_within(k, key) or _is_within(key, k))
        return next(near, "default") if self._is_set(key) else "default"

    def _is_set(self, key: str) -> bool:
        """Return whether a leaf was given, by a person or by a validator in their words."""
        section: object = self.value
        for part in key.split("."):
            if not isinstance(section, BaseModel):
                break
            if part not in section.model_fields_set:
                return False
            section = getattr(section, part)
        return True


def resolve(model: type[S], file: Path | None = None, overrides: Sequence[str] = ()) -> Resolved[S]:
    """Build ``model`` from defaults, then a YAML ``file``, then ``key.sub=value`` words of the command line.

    Its paths are absolute, from the working directory: the process that gets it may run in another one.
    Raises UserError naming every mistake in the file and on the command line, not just the first.
    """
    data = _current_yaml(model, file) if file else {}
    origin = {key: str(file) for key, _ in _leaves(data)}
    mistakes = []
    for word in overrides:
        try:
            key, value, told = current_name(model, *_setting(word))
        except UserError as error:
            mistakes.append(f"{_COMMAND_LINE}: {error}")
            continue
        tell_renamed(told, _COMMAND_LINE)
        _assign(data, key.split("."), value)
        origin = {other: place for other, place in origin.items() if not _is_within(other, key)}
        origin |= {leaf: _COMMAND_LINE for leaf, _ in _leaves(value, key)}
    try:
        resolved = Resolved(settled(model.model_validate(data)), origin)
    except ValidationError as error:
        place = str(file) if file else _COMMAND_LINE
        known = list(_known_keys(model))
        mistakes += [_explain(detail, origin, place, known) for detail in _meant(error.errors())]
    if mistakes:
        raise UserError("\n".join(mistakes))
    return resolved


def current_names(model: type[BaseModel], data: Mapping[str, object], prefix: str = "") -> tuple[JsonObject, list[str]]:
    """Return ``data`` of ``model`` under the names that its keys have now, and a line for each that had another.

    Raises UserError where a key is given under both names.
    """
    renamed: Mapping[str, Renamed] = getattr(model, "renamed", {})
    found: JsonObject = {}
    told = []
    for key, value in data.items():
        now = renamed.get(key, Renamed(key))
        if now.key != key:
            if now.key in data:
                raise UserError(f"{prefix}{key} is the old name of {prefix}{now.key}, and both are given", "keep one")
            told.append(f"{prefix}{key} is now called {prefix}{now.key}")
        if isinstance(value, str) and value in now.values:
            told.append(f"{prefix}{now.key}={value} is now called {now.values[value]}")
            value = now.values[value]
        section = _section(model, now.key)
        if section is not None and isinstance(value, Mapping):
            value, more = current_names(section, value, f"{prefix}{now.key}.")
            told += more
        found[now.key] = value
    return found, told


def current_name(model: type[BaseModel], key: str, value: object) -> tuple[str, object, list[str]]:
    """Return a dotted key and its value under the names that they have now, and the lines of ``current_names``."""
    *outer, last = key.split(".")
    tree: JsonObject = {last: value}
    for part in reversed(outer):
        tree = {part: tree}
    tree, told = current_names(model, tree)
    names = []
    for _ in (*outer, last):
        ((name, tree),) = tree.items()
        names.append(name)
    return ".".join(names), tree, told


def tell_renamed(told: Iterable[str], place: str) -> None:
    """Warn of the lines of ``current_names``, which are about ``place``."""
    for line in told:
        warnings.warn(f"{place}: {line}; the old name goes with the next version", RenamedWarning, stacklevel=3)


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, or an empty string."""
    if len(word) > _LONGEST_WORD:  # comparing a million letters takes a third of a second
        return ""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def _read_yaml(file: Path) -> JsonObject:
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{file}: no such configuration file", "`whisperfleet recipe` has examples") from None
    except yaml.MarkedYAMLError as error:  # its own words would show the line, which may hold a secret
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = " ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{file}: cannot be read as YAML: {what}{where}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read as YAML: {one_line(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{file}: holds a {type(data).__name__}, not a mapping of sections")
    return data


def _current_yaml(model: type[BaseModel], file: Path) -> JsonObject:
    data = _read_yaml(file)
    try:
        found, told = current_names(model, data)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    tell_renamed(told, str(file))
    return found


def _section(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of what stands under a key, None where that is no section."""
    info = model.model_fields.get(key)
    kinds = () if info is None else (info.annotation, *get_args(info.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _setting(word: str) -> tuple[str, object]:
    key, separator, text = word.partition("=")
    if not separator or not key:
        raise UserError(f"'{word}' is not a setting", "write key=value, for example optim.max_steps=100")
    try:
        return key, yaml.load(text, _Loader) if text else ""
    except (ValueError, yaml.YAMLError):  # ValueError: 0x_ looks like a number and is none
        shown = word if may_be_told(key, text) else f"{key}=..."
        raise UserError(f"'{shown}': the value is not valid YAML", "quote it, for example key='\"a: b\"'") from None


def _assign(data: JsonObject, path: list[str], value: object) -> None:
    for part in path[:-1]:
        child = data.setdefault(part, {})
        if not isinstance(child, dict):
            child = data[part] = {}
        data = child
    data[path[-1]] = value


def _leaves(data: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(data, dict) and (data or not prefix):
        for key, value in data.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, data


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        key = f"{prefix}{name}"
        yield key
        if (inner := _section(model, name)) is not None:
            yield from _known_keys(inner, f"{key}.")


def _is_kind(part: int | str) -> bool:
    """Return whether part of a path is pydantic's name of a type of value: ``SourceConfig``, ``list[SourceConfig]``."""
    kinds = {section.__name__ for section in Section.__subclasses__()}
    return isinstance(part, str) and (part in kinds or part.partition("[")[0] in ("list", "dict", "tuple"))


def _meant(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Yield the mistakes without those of what was not meant, where a key takes one thing or a list of them.

    pydantic tells of every kind and puts its name into the path (``data.train.SourceConfig.channel``); the one that was
    meant is the one that could be read furthest.
    """
    kinds: dict[tuple[int | str, ...], dict[str, list[ErrorDetails]]] = {}
    for detail in details:
        at = next((i for i, part in enumerate(detail["loc"]) if _is_kind(part)), None)
        if at is None:
            yield detail
            continue
        before, kind, after = detail["loc"][:at], str(detail["loc"][at]), detail["loc"][at + 1 :]
        kinds.setdefault(before, {}).setdefault(kind, []).append({**detail, "loc": before + after})
    for named in kinds.values():
        yield from max(named.values(), key=lambda found: max(len(detail["loc"]) for detail in found))


def _is_within(key: str, outer: str) -> bool:
    return f"{key}.".startswith(f"{outer}.")


def _explain(detail: ErrorDetails, origin: dict[str, str], place: str, known: Sequence[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    where = next((origin[k] for k in origin if _is_within(k, key) or _is_within(key, k)), place)
    if detail["type"] == "extra_forbidden":
        hint = suggestion(key, known)
        return f"{where}: unknown key '{key}'" + (f" ({hint})" if hint else "")
    message = detail["msg"].removeprefix("Value error, ")
    given = f", got {detail['input']!r}" if _is_told(detail, key) else ""
    return f"{where}: {key}: {message}{given}" if key else f"{where}: {message}"


def _is_told(detail: ErrorDetails, key: str) -> bool:
    if detail["type"] == "missing" or isinstance(detail["input"], dict):
        return False
    return may_be_told(key, detail["input"])
