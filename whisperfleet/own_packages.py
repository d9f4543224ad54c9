"""Finds this project's packages before files of the same names in the folder where the command is started.

``asr``, ``cluster``, ``train`` and ``serve`` are short names, and a user's ``train.py`` or ``serve.py`` is nothing odd.
Python looks in the working directory first, and so would import theirs. Processes of Ray are told where ours are by
``cluster.session``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

NAMES = ("asr", "cluster", "train", "serve")
ROOT = Path(__file__).resolve().parent.parent


class _Finder:
    """Looks for these names beside this package, and for nothing else."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(ROOT)]) if name in NAMES else None


def first() -> None:
    """Have the names found here from now on. Raises ImportError where one stands for another module already."""
    for name in NAMES:
        origin = getattr(sys.modules.get(name), "__file__", None)
        if origin and not Path(origin).resolve().is_relative_to(ROOT):
            raise ImportError(
                f"whisperfleet has a package of the name '{name}', and {origin} was imported under it: "
                "import whisperfleet first, or rename that file"
            )
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
