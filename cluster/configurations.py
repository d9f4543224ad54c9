"""The configuration files that a command names: what they are called in the job, and which files they name in turn."""

from __future__ import annotations

import os
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from asr.errors import UserError

_BROUGHT = "brought"  # the folder of configuration files from outside of the checkout


def locate(root: Path, here: Path, argv: Sequence[str]) -> list[str]:
    """Return ``argv`` with configuration files, as typed in the folder ``here``, as seen from ``root``."""
    return [_seen_from(root, (here / word).resolve()) if _is_config(here, word) else word for word in argv]


def bring(root: Path, argv: Sequence[str]) -> tuple[list[str], Mapping[str, Path]]:
    """Return ``argv`` with configuration files as they are called in the job, and these files by that name.

    Of a file outside of the checkout a copy travels; so does one inside it that is left out otherwise. Raises UserError
    where two from outside have the same name.
    """
    configs = {word: root / word for word in argv if _is_config(root, word)}
    called = {word: f"{_BROUGHT}/{Path(word).name}" if Path(word).is_absolute() else word for word in configs}
    if len(set(called.values())) < len(called):
        raise UserError("two configuration files have the same name", "rename one of them")
    return [called.get(word, word) for word in argv], {called[word]: file for word, file in configs.items()}


def missing(root: Path, argv: Sequence[str], storage: str, travelling: Container[str]) -> list[str]:
    """Return a remark on each file of the checkout that a command or its configuration names and that does not travel.

    With a ``storage`` there are none: relative paths are then below it.
    """
    named = () if storage else dict.fromkeys(_places(root, argv))
    found = [name for name in named if name not in travelling and os.path.isfile(root / name)]
    return [f"named, but left here: {name}; {_remedy(name)}" for name in found]


def _remedy(name: str) -> str:
    outside = name.startswith(os.pardir)
    return "copy it into the checkout, or to --storage" if outside else f"to take it: --with {shlex.quote(name)}"


def _places(root: Path, argv: Sequence[str]) -> Iterator[str]:
    """Yield each text in a command's words and in the configuration files among them that may be a relative path."""
    for word in argv:
        if _is_config(root, word):
            yield from _texts((root / word).read_text(encoding="utf-8", errors="replace"))
        else:
            yield from _relative(word)
            yield from _texts(word.partition("=")[2])


def _texts(written: str) -> Iterator[str]:
    """Yield the texts in a YAML document: what stands between its marks, whichever of them it has."""
    try:
        events = list(yaml.parse(written, yaml.SafeLoader))
    except yaml.YAMLError:
        return  # the verb says so, with the line
    for event in events:
        if isinstance(event, yaml.ScalarEvent):
            yield from _relative(event.value)


def _relative(text: str) -> Iterator[str]:
    """Yield a text as a relative path, normalised, if it may be one. An absolute one is the same in the job."""
    if text and not os.path.isabs(text):
        yield os.path.normpath(text)


def _is_config(folder: Path, word: str) -> bool:
    return word.endswith((".yaml", ".yml")) and (folder / word).is_file()


def _seen_from(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
