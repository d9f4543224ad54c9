"""Processes that parse one stranger's file each, and the process that forks them: none has parsed another before."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from functools import cache

from asr.io import confined_start
from asr.io.confinement import Allowance, environment
from asr.io.messages import ASKED, BORN, readable, receive

START_LIMIT_S = 120.0
NONSENSE = "answered nonsense"
_FORK_LIMIT_S = 60.0  # for what takes milliseconds, on a machine that swaps
_END_S = 1.0
_NEWS_BYTES = 1 << 14

_TOO_MUCH = {signal.SIGXCPU: "took too long", signal.SIGXFSZ: "wrote too much"}

_log = logging.getLogger(__name__)


class Ended(Exception):
    """The process that forks workers has ended, not by a file's fault: the machine needed memory, or it was killed."""


@dataclass(frozen=True)
class Worker:
    """A confined process that does one thing: its id, the socket to it, and what it may take (None: not to be set)."""

    pid: int
    socket: socket.socket
    allowance: Allowance | None
    _descriptor: int
    """Of the process: an id may be another's as soon as who forked it has gone."""

    def gone(self, timeout_s: float = 0.0) -> bool:
        """Return whether it has ended, or does within so many seconds."""
        return readable(self._descriptor, timeout_s)

    def kill(self, timeout_s: float) -> None:
        """End it, and wait for that so long."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        self.gone(timeout_s)

    def close(self) -> None:
        """Close what leads to it."""
        self.socket.close()
        os.close(self._descriptor)


def started(module: str, memory_bytes: int, **variables: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a module of ours with a socket and a bound in bytes, in a clean environment; return it and our end.

    ``variables`` are of the environment, beside those that all have.
    """
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    name = threading.current_thread().name  # for those who look at a list of processes
    words = ["-P", confined_start.__file__, module, str(theirs.fileno()), str(memory_bytes), name]
    # All of the path: a cluster's nodes find the packages where Ray put them.
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment(path) | variables,
        )
    return process, ours


class Forker:
    """The process that forks workers, one ahead of its use. It ends with the thread that made it, or with ``close``.

    ``module`` is what runs in it, ``memory_bytes`` what a worker may take beyond what it begins with.
    """

    def __init__(self, module: str, memory_bytes: int) -> None:
        self._process, self._control = started(module, memory_bytes)
        self._worker: list[Worker] = []
        self.close = weakref.finalize(self, _end, self._process, self._control, self._worker)
        self._control.settimeout(START_LIMIT_S)
        begun = self._control.recv(_NEWS_BYTES)
        if not begun:
            raise EOFError(f"{module} has said on standard error why it does not start")
        self._missing = json.loads(begun)["missing"]
        self._control.settimeout(_FORK_LIMIT_S)
        self._control.send(ASKED.pack(0))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether a worker can still be had."""
        return self.close.alive and self._process.poll() is None

    def worker(self) -> Worker:
        """Return a worker that has done nothing yet, the same one until ``over``. Raises Ended."""
        while True:
            if not self._worker:
                self._take()
            if not self._worker[0].gone():
                return self._worker[0]
            self.over()  # the machine needed its memory

    def over(self, gone: bool = True) -> None:
        """End the worker. The next one is forked meanwhile.

        ``gone``: when this returns, it has no more hands on anything, which takes a few milliseconds.
        """
        worker = self._worker.pop()
        worker.kill(_FORK_LIMIT_S if gone else 0.0)
        worker.close()
        try:
            self._control.send(ASKED.pack(worker.pid))
        except OSError:
            self.close()  # what the worker has answered is as good as before; who asks next is told

    def how(self) -> str:
        """End the worker and say how it came to its end by itself. Raises Ended."""
        if not self._worker[0].gone(_END_S):
            self.over()
            return NONSENSE
        self.over()
        code = self._take()
        if code == os.EX_UNAVAILABLE:
            return "took too much memory"
        if code < 0:
            return _TOO_MUCH.get(signal.Signals(-code), f"ended with {signal.Signals(-code).name}")
        return f"ended with status {code}"

    def _take(self) -> int:
        """Have the next worker, and return how the one before it ended. Raises Ended."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, BORN.size, 1)
            if not data:
                raise EOFError
            code, pid = BORN.unpack(data)
            with contextlib.ExitStack() as on_error:
                ours = on_error.enter_context(socket.socket(fileno=descriptors[0]))
                ours.settimeout(_FORK_LIMIT_S)
                begun = receive(ours)
                watched = os.pidfd_open(pid)
                on_error.pop_all()
        except (OSError, EOFError) as error:
            self.close()
            raise Ended("what forks the sandbox's processes has ended") from error
        allowance, refused = _allowance(pid)
        self._worker.append(Worker(pid, ours, allowance, watched))
        tell((*self._missing, *begun["missing"], *refused))
        return int(code)


def _allowance(pid: int) -> tuple[Allowance | None, list[str]]:
    try:
        return Allowance(pid), []
    except OSError as error:
        return None, [f"limits on CPU time and file size: {error}"]


@cache
def tell(missing: tuple[str, ...]) -> None:
    """Warn once about the confinement that the kernel does not support."""
    if missing:
        _log.warning("files are parsed with less confinement than there could be: %s", "; ".join(missing))


def _end(process: subprocess.Popen[bytes], control: socket.socket, workers: list[Worker]) -> None:
    while workers:
        workers.pop().close()
    control.close()
    process.kill()  # and the kernel its workers
    process.wait()
