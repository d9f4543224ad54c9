"""SIGTERM, a scheduler's way to end a command: it does what Ctrl-C does, in one line, without Ray's list of addresses.

A command that has nothing to put in order (it still imports, or has come to its end) ends at once: there an exception
may be swallowed by whoever happens to run.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_CODE = 128 + signal.SIGTERM  # as a shell, and so a scheduler, says it
_LINE = "whisperfleet: ended by SIGTERM: the same command can be given again\n"
_LOOK_S = 0.001
# To stop what was started takes up to 3 s. Where the signal reached all of the group, Ray waits 30 s for what has ended
# already, in C++, which a KeyboardInterrupt does not reach; some schedulers kill after 30 s.
_PATIENCE_S = 10.0

_C = ctypes.PyDLL(None)
_C.PyOS_getsig.restype = ctypes.c_void_p
_C.PyOS_setsig.restype = ctypes.c_void_p
_C.PyOS_setsig.argtypes = [ctypes.c_int, ctypes.c_void_p]

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


@contextmanager
def guarded() -> Iterator[None]:
    """Keep SIGTERM while Ray starts in the block: the line is said at once, the end comes within seconds.

    Ray's C++ takes the signal from Python for the last tenths of a second, in which its list of addresses would be
    printed and the process aborted: a thread takes it back.
    """
    if not installed() or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _C.PyOS_getsig(signal.SIGTERM)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    over = threading.Event()
    guard = threading.Thread(target=_guard, args=(reading, handler, over), daemon=True)
    guard.start()
    try:
        yield
        install()
    finally:
        over.set()
        guard.join()
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _guard(reading: int, handler: int, over: threading.Event) -> None:
    while not over.is_set():
        if _C.PyOS_getsig(signal.SIGTERM) != handler:
            _C.PyOS_setsig(signal.SIGTERM, handler)
        came, _, _ = select.select([reading], [], [], _LOOK_S)
        if came and signal.SIGTERM in os.read(reading, 64):
            _asked.set()
            _say()
            if not over.wait(_PATIENCE_S):
                os._exit(EXIT_CODE)


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
