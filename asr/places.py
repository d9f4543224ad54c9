"""Paths and addresses in a configuration: made absolute once, before workers in other folders see them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

M = TypeVar("M", bound=BaseModel)

_SCHEME = re.compile(r"[A-Za-z][\w.+-]*:")  # s3://, hf:owner/name, prompts:it, builtin:base, env:NAME
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class Mark:
    """Marks a field's text as a path or an address. ``hub``: or a model's name on the hub, if no folder has that name.
    ``kept``: whoever uses it makes it absolute, because a relative one means something else in a job."""

    hub: bool = False
    kept: bool = False


Place = Annotated[str, Mark()]
"""A file or folder, an address, or what has a scheme of its own in front. ``""`` and ``-`` are none."""
ModelPlace = Annotated[str, Mark(hub=True)]
"""The same, or the name of a model on the hub."""
KeptPlace = Annotated[str, Mark(kept=True)]
"""The same, but a relative one stays relative."""


def absolute(uri: str, mark: Mark | None = None) -> str:
    """Return a local path as an absolute one, relative to the working directory and with ``~`` for one's home.

    Addresses, names and what is empty are returned as they are.
    """
    mark = mark or Mark()
    if uri in ("", "-"):
        return uri
    if uri.startswith("file://"):
        path = uri.removeprefix("file://")
        return uri if os.path.isabs(path) or mark.kept else f"file://{os.path.abspath(path)}"
    path = os.path.expanduser(uri)
    if not os.path.exists(path):
        if _SCHEME.match(uri) and "/" not in uri.partition(":")[0]:
            return uri
        if mark.hub and _HUB_ID.fullmatch(uri):
            return uri
    return path if mark.kept else os.path.abspath(path)


def settled(section: M) -> M:
    """Return a configuration with every path in it absolute."""
    return section.model_copy(update=_changed(section, absolute))


def as_moved(section: M) -> M:
    """Return a configuration with paths below the working directory relative to it: equal after a move of it all."""
    return section.model_copy(update=_changed(section, _relative))


def mark_of(field: FieldInfo) -> Mark | None:
    """Return how a field of a configuration is marked as a path, anywhere in its type; None if it is not one."""
    return next((found for one in (*field.metadata, field.annotation) for found in _marks(one)), None)


def _marks(annotation: object) -> Iterator[Mark]:
    if isinstance(annotation, Mark):
        yield annotation
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        yield from _marks(part)


def _changed(section: BaseModel, change: Callable[[str, Mark], str]) -> dict[str, object]:
    changed = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        new = _mapped(value, mark_of(field), change)
        if new != value:
            changed[name] = new
    return changed


def _mapped(value: object, mark: Mark | None, change: Callable[[str, Mark], str]) -> object:
    if isinstance(value, BaseModel):
        return value.model_copy(update=_changed(value, change))
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(one, mark, change) for one in value)
    if isinstance(value, dict):
        return {key: _mapped(one, mark or _mark_of_key(key), change) for key, one in value.items()}
    return change(value, mark) if mark is not None and isinstance(value, str) else value


def _mark_of_key(key: object) -> Mark | None:
    """Return how somebody else's configuration, such as DeepSpeed's, marks a path by its key: ``nvme_path``."""
    return Mark() if isinstance(key, str) and key.endswith("_path") else None


def _relative(uri: str, mark: Mark) -> str:
    whole = absolute(uri, mark)
    here = str(Path.cwd())
    return os.path.relpath(whole, here) if whole.startswith(f"{here}/") else whole
