"""SIGTERM, a scheduler's way to end a command: it does what Ctrl-C does, in one line, without Ray's list of addresses.

One thread waits for it, and it is blocked in all others. So no handler in C is ever called, such as that of Ray's C++,
which prints a stack, and one in Python only when we say so. What is done depends on how far the command has come.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

EXIT_CODE = 128 + signal.SIGTERM  # as a shell, and so a scheduler, says it
_HOW = "ended by SIGTERM"
_LINE = f"whisperfleet: {_HOW}: the same command can be given again"
_LOOK_S = 0.001
# A signal to all of a group or job reaches Ray in the same millisecond. Two of its helpers end within 15 ms, and
# its C++ ends this process mutely, with exit code 1, after 70 ms (Ray 2.60, connection.cc).
_SPREAD_S = 0.3
_AFTER_A_BAR = b"\r\n\x1b[?25h"  # which ends in the middle of a line, and has hidden the cursor
_WAKE = signal.SIGURG  # of no use to anybody: it ends a wait of the main thread, where its handlers are called
_WAKES, _WAKES_EVERY_S = 10, 0.05  # a thread that was just about to wait is not woken by the first
_TAKEN = frozenset({signal.SIGTERM})

_asked, _told = threading.Event(), threading.Event()
_telling = threading.Lock()
_lines: list[Callable[[], str]] = []


class _Phase(ABC):
    @abstractmethod
    def meet(self) -> None:
        """Do what a signal asks for, in the thread that waits for it."""


class _Nothing(_Phase):
    """State without anything to clean up: at the start, where an import may swallow an exception, and at the end."""

    def meet(self) -> None:
        _asked.set()
        if _lines and sys.stderr.isatty():
            os.write(2, _AFTER_A_BAR)
        _say()
        os._exit(EXIT_CODE)


_NOTHING = _Nothing()


class _Working(_Phase):
    """State with something to clean up: the main thread's handler is called, which raises KeyboardInterrupt."""

    def meet(self) -> None:
        if not callable(signal.getsignal(signal.SIGTERM)):  # somebody wants it to end the process
            _NOTHING.meet()
        _thread.interrupt_main(signal.SIGTERM)
        _wake()


class _Running(_Working):
    """State while Ray runs. If its own processes got the signal too, nothing can be cleaned up."""

    def __init__(self) -> None:
        self._started = _children()

    def meet(self) -> None:
        super().meet()
        until = time.monotonic() + _SPREAD_S
        while time.monotonic() < until and interrupts():
            if any(map(_has_ended, self._started)):
                _NOTHING.meet()  # the kernel ends what of Ray is left, as Ray asked it to
            time.sleep(_LOOK_S)


_phase: _Phase | None = None  # None: SIGTERM is not ours
_changing = threading.Lock()  # held while a signal is met: the next phase waits


def take() -> None:
    """Take SIGTERM from now on. First of all: threads that were started before would still be given it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    atexit.register(_release)  # the first to be registered is the last to be called
    os.register_at_fork(after_in_child=_release)
    signal.signal(_WAKE, lambda *_: None)
    _handle()
    _enter(_NOTHING)
    threading.Thread(target=_receive, name="SIGTERM", daemon=True).start()


def begin() -> None:
    """Declare that there is something to clean up from now on: SIGTERM raises KeyboardInterrupt, once."""
    if _phase is not None:
        _enter(_Working())


def finish() -> None:
    """Declare that all is cleaned up: SIGTERM ends the process, with the line and the exit code."""
    if _phase is not None:
        _enter(_NOTHING)


@contextmanager
def starting() -> Iterator[None]:
    """Start Ray in the block, which is not interrupted: SIGTERM ends this process, and the kernel what Ray started."""
    with _in(_NOTHING) as ours:
        try:
            yield
        finally:
            if ours:
                _handle()  # Ray has put its own in the place of ours, twice over


@contextmanager
def running() -> Iterator[None]:
    """Have a Ray that this process has started run in the block, to be stopped after it.

    SIGTERM is an interruption, and everything is put in order, but where it has reached Ray's own processes too: there
    the line is said at once, and the process ends.
    """
    with _in(_Running()):
        yield


@contextmanager
def _in(phase: _Phase) -> Iterator[bool]:
    """Handle signals in the block as ``phase`` does, and return whether they are ours."""
    before = _phase
    if not isinstance(before, _Working) or threading.current_thread() is not threading.main_thread():
        yield False
        return
    _enter(phase)
    try:
        yield True
    finally:
        _enter(before)


@contextmanager
def given_to_children() -> Iterator[None]:
    """Start processes in the block that are to end by SIGTERM: in others it stays blocked, as they inherit that.

    Not needed where there is a ``preexec_fn``, as of Ray's processes.
    """
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupts() -> bool:
    """Return whether SIGTERM raises KeyboardInterrupt, as nobody has put another handler in its place."""
    return isinstance(_phase, _Working) and signal.getsignal(signal.SIGTERM) is _interrupt


def asked() -> bool:
    """Return whether this process was asked to end."""
    return _asked.is_set()


@contextmanager
def telling(where: Callable[[], str]) -> Iterator[None]:
    """Say how the block was ended, if it was, and behind it ``where``: how things stand, which knows more than ours."""

    def line() -> str:
        return f"{_HOW if asked() else 'interrupted'}{where()}"

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
            os.write(2, f"{line}\n".encode())  # not print: the signal may have come while somebody printed


def end() -> NoReturn:
    """End a command that was asked to: with a line, its own where it had one to say, and the exit code."""
    _say()
    sys.exit(EXIT_CODE)


def _receive() -> None:
    while True:
        signal.sigwait(_TAKEN)
        with _changing:
            assert _phase is not None
            _phase.meet()
        for _ in range(_WAKES):
            if _asked.wait(_WAKES_EVERY_S):
                break
            _wake()


def _wake() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, _WAKE)


def _enter(phase: _Phase) -> None:
    global _phase
    with _changing:
        _phase = phase


def _handle() -> None:
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt in the main thread, once.

    Not by way of the handler that Ray Train has for Ctrl-C: it asks the controller to stop, and a scheduler's SIGTERM
    has often reached that too, and what it is reached by. Closing the session ends all workers.
    """
    if not _asked.is_set():
        _asked.set()
        raise KeyboardInterrupt


def _release() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN)


def _say() -> None:
    tell(_lines[-1]() if _lines else _LINE)


def _children() -> list[str]:
    """Return the process ids of what the main thread has started, none where the kernel does not tell."""
    try:
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return []


def _has_ended(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return True
    return state in b"ZX"
