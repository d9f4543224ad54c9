"""Processes that parse one stranger's file each, and what forks them: none has heard another stranger before."""

from __future__ import annotations

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

from asr.confinement import Allowance, environment
from asr.messages import ASKED, BORN, readable, receive

START_LIMIT_S = 120.0
NONSENSE = "answered nonsense"
_FORK_LIMIT_S = 60.0  # for what takes milliseconds, on a machine that swaps
_END_S = 1.0
_NEWS_BYTES = 1 << 14

_TOO_MUCH = {signal.SIGXCPU: "took too long", signal.SIGXFSZ: "wrote too much"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """A confined process that does one thing: its id, the socket to it, and what it may take (None: not to be set)."""

    pid: int
    socket: socket.socket
    allowance: Allowance | None

    def gone(self, timeout_s: float = 0.0) -> bool:
        """Return whether it has ended, or does within so many seconds."""
        watched = os.pidfd_open(self.pid)  # it is reaped on our word only: the id is nobody else's
        try:
            return readable(watched, timeout_s)
        finally:
            os.close(watched)


class Forker:
    """The process that forks workers, one ahead of its use. It ends with the thread that made it, or with ``close``.

    ``module`` is what runs in it, ``memory_bytes`` what a worker may take beyond what it begins with.
    """

    def __init__(self, module: str, memory_bytes: int) -> None:
        self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        # The name of the thread is for those who look at a list of processes.
        words = ["-P", "-m", module, str(theirs.fileno()), str(memory_bytes), threading.current_thread().name]
        # All of the path: a cluster's nodes find the packages where Ray put them.
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment(path)
        )
        theirs.close()
        self._worker: list[Worker] = []
        self.close = weakref.finalize(self, _end, self._process, self._control, self._worker)
        self._control.settimeout(START_LIMIT_S)
        begun = self._control.recv(_NEWS_BYTES)
        if not begun:
            raise EOFError(f"{module} has said on standard error why it does not start")
        self._missing = json.loads(begun)["missing"]
        self._control.settimeout(_FORK_LIMIT_S)
        self._ask(0)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether there will be workers."""
        return self.close.alive and self._process.poll() is None

    def worker(self) -> Worker:
        """Return a worker that has done nothing yet, the same one until ``over``. Raises OSError or EOFError."""
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
        os.kill(worker.pid, signal.SIGKILL)
        worker.socket.close()
        if gone:
            worker.gone(_FORK_LIMIT_S)
        self._ask(worker.pid)

    def how(self) -> str:
        """End the worker and say how it came to its end by itself."""
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

    def _ask(self, over: int) -> None:
        self._control.send(ASKED.pack(over))

    def _take(self) -> int:
        """Have the next worker, and return how the one before it ended."""
        data, descriptors, _, _ = socket.recv_fds(self._control, BORN.size, 1)
        if not data:
            raise EOFError("what forks the sandbox's processes has ended")
        code, pid = BORN.unpack(data)
        ours = socket.socket(fileno=descriptors[0])
        try:
            ours.settimeout(_FORK_LIMIT_S)
            begun = receive(ours)
            allowance, refused = _allowance(pid)
        except BaseException:
            ours.close()
            raise
        self._worker.append(Worker(pid, ours, allowance))
        tell((*self._missing, *begun["missing"], *refused))
        return code


def _allowance(pid: int) -> tuple[Allowance | None, list[str]]:
    try:
        return Allowance(pid), []
    except OSError as error:
        return None, [f"limits on CPU time and file size: {error}"]


@cache
def tell(missing: tuple[str, ...]) -> None:
    """Say once what the kernel does not give."""
    if missing:
        _log.warning("files are parsed with less confinement than there could be: %s", "; ".join(missing))


def _end(process: subprocess.Popen[bytes], control: socket.socket, workers: list[Worker]) -> None:
    for worker in workers:
        worker.socket.close()
    control.close()
    process.kill()  # and the kernel its workers
    process.wait()
