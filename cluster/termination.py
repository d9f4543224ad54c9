"""SIGTERM, a scheduler's way to end a command: it does what Ctrl-C does, without Ray's list of addresses."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM  # as a shell, and so a scheduler, says it

_asked = threading.Event()


def install() -> None:
    """Take SIGTERM from now on. To be called again where others have taken it: ray.init does, twice over.

    Ray's Python drains and kills its processes and exits with 1; its C++, which has the last word, prints a stack.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)


def installed() -> bool:
    """Return whether SIGTERM comes here, as far as Python knows."""
    return signal.getsignal(signal.SIGTERM) is _end


def asked() -> bool:
    """Return whether this process was asked to end."""
    return _asked.is_set()


def _end(number: int, frame: FrameType | None) -> Any:
    """Do what Ctrl-C does by now: raise KeyboardInterrupt, or stop Ray Train's workers first. A second one waits."""
    if _asked.is_set():
        return None
    _asked.set()
    interrupt = signal.getsignal(signal.SIGINT)
    if callable(interrupt):
        return interrupt(number, frame)
    raise KeyboardInterrupt
