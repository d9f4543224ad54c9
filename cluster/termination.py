"""SIGTERM, a scheduler's way to end a command: it does what Ctrl-C does, in one line, without Ray's list of addresses.

A command that has nothing to put in order (it still imports, or has come to its end) ends at once: there an exception
may be swallowed by whoever happens to run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

EXIT_CODE = 128 + signal.SIGTERM  # as a shell, and so a scheduler, says it
_LINE = "whisperfleet: ended by SIGTERM: the same command can be given again\n"

_asked, _told = threading.Event(), threading.Event()


def install() -> None:
    """Take SIGTERM from now on. To be called again where others have taken it: ray.init does, twice over.

    Ray's Python drains and kills its processes and exits with 1; its C++, which has the last word, prints a stack.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)


def install_at_once() -> None:
    """Take SIGTERM while there is nothing to put in order: it ends this process with the line and the exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end_at_once)


def begin() -> None:
    """Say that there is something to put in order from now on, where ``install_at_once`` was the last to be called."""
    if signal.getsignal(signal.SIGTERM) is _end_at_once:
        install()


def installed() -> bool:
    """Return whether SIGTERM comes here, as far as Python knows."""
    return signal.getsignal(signal.SIGTERM) is _end


def asked() -> bool:
    """Return whether this process was asked to end."""
    return _asked.is_set()


def told() -> None:
    """Take note that a line about the end, which knows more than ours, is on standard error."""
    _told.set()


def end() -> NoReturn:
    """End a command that was asked to: with a line, its own where it had one to say, and the exit code."""
    _asked.set()
    _say()
    sys.exit(EXIT_CODE)


def _say() -> None:
    if not _told.is_set():
        _told.set()
        os.write(2, _LINE.encode())  # not print: the signal may have come while somebody printed


def _end(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt in the main thread, once.

    Not by way of the handler that Ray Train has for Ctrl-C: it asks the controller to stop, and a scheduler's SIGTERM
    has often reached that too, and what it is reached by. Closing the session ends all workers.
    """
    if not _asked.is_set():
        _asked.set()
        raise KeyboardInterrupt


def _end_at_once(number: int, frame: FrameType | None) -> None:
    if not _asked.is_set():  # else a line was said, and the exit code is on its way
        _say()
        os._exit(EXIT_CODE)
