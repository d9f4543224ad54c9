"""SIGTERM, a scheduler's way to end a command: it does what Ctrl-C does, without Ray's list of addresses."""

from __future__ import annotations

import signal
import threading
from types import FrameType

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


def _end(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt in the main thread, once.

    Not by way of the handler that Ray Train has for Ctrl-C: it asks the controller to stop, and a scheduler's SIGTERM
    has often reached that too, and what it is reached by. Closing the session ends all workers.
    """
    if not _asked.is_set():
        _asked.set()
        raise KeyboardInterrupt
