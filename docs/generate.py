"""Generates docs/tree.md and docs/configuration.md from the code (``make docs``)."""

from __future__ import annotations

import ast
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from asr.data.sources import SourceConfig
from asr.places import mark_of
from cluster.project import PACKAGES, ROOT
from serve.config import ServeConfig
from serve.ingress.limits.auth import Key
from train.config import TrainConfig
from train.data.inspect import InspectConfig
from train.data.prepare import PrepareConfig
from train.sweep.space import SweepConfig, Values

# What is described by a table of its own wherever it stands.
_APART: dict[type[BaseModel], str] = {SourceConfig: "source", Values: "values"}
_TABLES: list[tuple[str, str, type[BaseModel]]] = [
    (
        "Training",
        "`whisperfleet train`, `check`, `plan` and `demo` read these keys from a YAML file and from `key=value` words.",
        TrainConfig,
    ),
    (
        "A source of speech",
        "`data.train`, `data.validation` and `data.retention` take these keys, or a plain string for `source` alone. "
        "`evaluate` and `data` have them as options. [sources.md](sources.md) describes the formats.",
        SourceConfig,
    ),
    ("Preparing data", "`whisperfleet data prepare` takes these as `key=value` words.", PrepareConfig),
    ("Inspecting data", "`whisperfleet data inspect` takes these as `key=value` words.", InspectConfig),
    (
        "A sweep",
        "`whisperfleet train --sweep` takes a YAML file or `key=value` words. [sweeps.md](sweeps.md) is the guide.",
        SweepConfig,
    ),
    ("Values of a sweep", "Each key of `space` takes one of these.", Values),
    ("Serving", "`whisperfleet serve` reads these keys from a YAML file and from `key=value` words.", ServeConfig),
    ("API keys", "The file that `keys` names is a list of these.", Key),
]

# The unit that the end of a name stands for, most telling first.
_UNITS = {
    "_bytes_per_s": "bytes per second",
    "chars_per_s": "characters per second",
    "_bytes": "bytes",
    "_gb": "GB (10⁹ bytes)",
    "_db": "dB",
    "_steps": "optimiser steps",
    "_clips": "clips",
    "_tokens": "tokens",
    "_share": "share",
    "per_hour": "per hour",
    "per_minute": "per minute",
    "_chars": "characters",
    "_s": "seconds",
    "probability": "share",
}
_WORDS = {str: "text", int: "whole number", float: "number", bool: "yes or no", type(None): "none"}
_WORDS |= dict.fromkeys((Any, object), "anything")


def summary(path: Path) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"\.(?= |$)", first)[0]


def modules() -> list[Path]:
    """Return the modules of the product."""
    found = (path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    return sorted(path for path in found if path.name != "__init__.py")


def tree() -> str:
    """Return docs/tree.md: a line for each module, in its own words."""
    lines = []
    for package in PACKAGES:
        lines.append(f"{package}/")
        for path in modules():
            if path.is_relative_to(ROOT / package):
                lines.append(f"  {path.relative_to(ROOT / package).as_posix():<26} {summary(path)}")
    head = "# The tree\n\nEach module in its own words. `make docs` writes this page.\n\n"
    beside = "\n\nBeside them: `configs/` (YAML to copy), `tests/` (the same names as here), `benchmarks/`, `docs/`.\n"
    return head + "```\n" + "\n".join(lines) + "\n```" + beside


def configuration() -> str:
    """Return docs/configuration.md: every key with type, unit, default and what it is for."""
    head = """# Configuration

Every key, its type, unit and default. Keys of a section are written with dots on the command line (`lora.rank=16`),
and below each other in YAML. `whisperfleet train CONFIG --dry-run` prints each value and where it comes from.
`make docs` writes this page from the code.
"""
    return head + "".join(_table(*table) for table in _TABLES)


def _table(title: str, about: str, model: type[BaseModel]) -> str:
    lines = [
        f"\n## {title}\n\n{about}\n\n",
        "| key | type | unit | default | what it is |\n",
        "|---|---|---|---|---|\n",
    ]
    for key, field in _keys(model):
        cells = [
            f"`{key}`",
            _type(field),
            _unit(key, field),
            _default(field),
            " ".join((field.description or "").split()),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("``", "`") for cell in cells) + " |\n")
    return "".join(lines)


def _keys(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None or section in _APART:
            yield before + name, field
        else:
            yield from _keys(section, f"{before}{name}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a key holds, whether or not it may be none; None for a key that holds a value."""
    options = [one for one in typing.get_args(annotation) if one is not type(None)]
    one = options[0] if len(options) == 1 and _is_union(annotation) else annotation
    return one if isinstance(one, type) and issubclass(one, BaseModel) else None


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _type(field: FieldInfo) -> str:
    words = "place" if mark_of(field) and field.annotation is str else _word(field.annotation)
    limits = {
        name: getattr(one, name) for one in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(one, name)
    }
    said = {"ge": "at least {:g}", "gt": "over {:g}", "le": "at most {:g}", "lt": "below {:g}"}
    return ", ".join([words, *(said[name].format(limit) for name, limit in limits.items())])


def _word(annotation: Any) -> str:
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is typing.Annotated:
        return "place" if mark_of(FieldInfo(annotation=annotation)) else _word(arguments[0])
    if _is_union(annotation):
        return " or ".join(_word(one) for one in arguments)
    if origin in (list, tuple):
        return f"list of {_word(arguments[0])}"
    if origin is dict:
        return f"names with {_word(arguments[1])}"
    return _WORDS.get(annotation) or _APART.get(annotation) or annotation.__name__


def _unit(key: str, field: FieldInfo) -> str:
    if not {int, float} & {field.annotation, *typing.get_args(field.annotation)}:
        return ""
    return next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value == "":
        return ""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace('`"', "`").replace('"`', "`")


def main() -> None:
    """Write the pages."""
    (ROOT / "docs" / "tree.md").write_text(tree(), encoding="utf-8")
    (ROOT / "docs" / "configuration.md").write_text(configuration(), encoding="utf-8")


if __name__ == "__main__":
    main()
