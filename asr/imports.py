"""Faster imports and exits: keeps Python's garbage collector away from thousands of modules that stay to the end."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Import in the block what stays to the end of the process: the garbage collector rests, and never looks at it.

    It would take a third of the time that torch, transformers and peft take to import.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def end_quickly() -> None:
    """Leave out the search for garbage at the end of the process, which takes seconds where torch was imported."""
    atexit.register(gc.freeze)


def leave_out(package: str) -> None:
    """Have this process believe that a package is not installed. Without effect where it is imported already."""
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]  # Python's own way to say so
