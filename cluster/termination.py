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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_CODE = 128 + signal.SIGTERM  # as a shell, and so a scheduler, says it
_LINE = "whisperfleet: ended by SIGTERM: the same command can be given again"
_LOOK_S = 0.001
# To stop what was started takes up to 3 s. Where the signal reached all of the group, Ray waits 30 s for what has ended
# already, in C++, which a KeyboardInterrupt does not reach; some schedulers kill after 30 s.
_PATIENCE_S = 10.0
# A signal to all of a group or job reaches Ray in the same millisecond. Two of its helpers end within 15 ms, and
# its C++ ends this process mutely, with exit code 1, after 70 ms (Ray 2.60, connection.cc).
_SPREAD_S = 1.0
_SHOW_CURSOR = b"\x1b[?25h"  # what a bar has hidden

_C = ctypes.PyDLL(None)
_C.PyOS_getsig.restype = ctypes.c_void_p
_C.PyOS_setsig.restype = ctypes.c_void_p
_C.PyOS_setsig.argtypes = [ctypes.c_int, ctypes.c_void_p]

_asked, _told = threading.Event(), threading.Event()
_telling = threading.Lock()
_lines: list[Callable[[], str]] = []


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
    with _beside(lambda reading, over: _guard(reading, handler, over)):
        yield
        install()


@contextmanager
def watched() -> Iterator[None]:
    """End in time where SIGTERM reaches Ray's own processes too, while the block runs: with the line and the exit code.

    They are what this process has started so far. Where they stay, the signal is an interruption, and everything is put
    in order.
    """
    if not installed() or threading.current_thread() is not threading.main_thread():
        yield
        return
    started = _children()
    with _beside(lambda reading, over: _watch(reading, started, over)):
        yield


@contextmanager
def _beside(work: Callable[[int, threading.Event], None]) -> Iterator[None]:
    """Run ``work`` in a thread: signals that come are bytes for it to read, also while the main thread is in C++."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    over = threading.Event()
    thread = threading.Thread(target=work, args=(reading, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.write(writing, b"\0")  # no signal: it looks up
        thread.join()
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


def _watch(reading: int, started: set[int], over: threading.Event) -> None:
    while not over.is_set():
        select.select([reading], [], [])
        if signal.SIGTERM not in os.read(reading, 64) or not installed():
            continue
        until = time.monotonic() + _SPREAD_S
        while not over.is_set() and time.monotonic() < until:
            if not started <= _children():
                _asked.set()
                _say()
                os._exit(EXIT_CODE)  # the kernel ends what of Ray is left, as Ray asked it to
            time.sleep(_LOOK_S)


def _children() -> set[int]:
    """Return the process ids of what the main thread has started and what still runs."""
    found = set()
    for child in _read(f"/proc/{os.getpid()}/task/{os.getpid()}/children").split():
        state = _read(f"/proc/{child}/stat").rpartition(")")[2].split()
        if state and state[0] not in "ZX":
            found.add(int(child))
    return found


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # it has ended
        return ""


def asked() -> bool:
    """Return whether this process was asked to end."""
    return _asked.is_set()


@contextmanager
def telling(line: Callable[[], str]) -> Iterator[None]:
    """Say ``line`` of an end while the block runs: it knows more than ours."""
    _lines.append(line)
    try:
        yield
    except KeyboardInterrupt:
        tell(line())
        raise
    finally:
        _lines.remove(line)


def tell(line: str) -> None:
    """Say on standard error, once, where things stand at the end."""
    with _telling:
        if not _told.is_set():
            _told.set()
            shown = _SHOW_CURSOR if sys.stderr.isatty() else b""
            os.write(2, shown + f"{line}\n".encode())  # not print: the signal may have come while somebody printed


def end() -> NoReturn:
    """End a command that was asked to: with a line, its own where it had one to say, and the exit code."""
    _asked.set()
    _say()
    sys.exit(EXIT_CODE)


def _say() -> None:
    tell(_lines[-1]() if _lines else _LINE)


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
