"""Names of models for people: a run's name instead of the path of its artifact."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_ARTIFACT = "artifact"
# What many folders are called: their own folder's name tells which one is meant.
_GENERIC = re.compile(r"(best|last|latest|final|model|weights|export|(checkpoint|step|epoch)[-_]?\d*)")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return a short name for each model: ``/data/runs/demo-1/artifact`` is ``demo-1``, ``builtin:base`` is itself.

    Two folders of the same name get as many folders before it as tell them apart, at worst all of them.
    """
    parts = {name: _parts(name) for name in names}
    taken = {name: 2 if _GENERIC.fullmatch(found[-1]) else 1 for name, found in parts.items()}
    while True:
        short = {name: "/".join(found[-taken[name] :]) for name, found in parts.items()}
        counts = Counter(short.values())
        same = [name for name in parts if counts[short[name]] > 1 and taken[name] < len(parts[name])]
        if not same:
            return {name: label if counts[label] == 1 else name for name, label in short.items()}
        for name in same:
            taken[name] += 1


def _parts(name: str) -> list[str]:
    """Return the folders of a path or an address; a hub's ``owner/name`` and ``builtin:base`` are one part."""
    if not _is_path(name):
        return [name]
    path = name.partition("?")[0] if "://" in name else name
    found = [part for part in re.split(r"[\\/]+", path.partition("://")[2] or path) if part not in ("", ".", "..", "~")]
    if len(found) > 1 and found[-1] == _ARTIFACT:
        found.pop()
    return found or [name]


def _is_path(name: str) -> bool:
    begins = name.startswith(("/", "~", "./", "../", "\\")) or _DRIVE.match(name) is not None
    return begins or "://" in name or name.count("/") > 1 or name.endswith((f"/{_ARTIFACT}", "/"))
