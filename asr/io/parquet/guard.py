"""The process that forks those which read strangers' Parquet files (``asr.io.parquet.child``): each process has one."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Sequence

from asr.io.confined_process import started
from asr.io.messages import ASKED

MEMORY_BYTES = 512 << 20  # beyond what a process begins with
MORE_BYTES = 16 << 30  # that it may be let have beyond that: more than any plan
CPU_S = 60
MESSAGE_BYTES = 500
RANGE_BYTES = 64 << 20  # of one question: far away each takes its time
ANSWER_S = 120.0
ENDED = "what reads Parquet files has ended, or does not answer"
_TUNABLES = "glibc.malloc.hugetlb=1"  # memory that is used once costs a sixth in pages of 2 MB


class Guard:
    """The process that forks those which read. All threads of this process share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process, self._socket = started("asr.io.parquet.child", MEMORY_BYTES, GLIBC_TUNABLES=_TUNABLES)
        self._socket.settimeout(ANSWER_S)
        self.close = weakref.finalize(self, _end, self._process, self._socket)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether the child can take a task."""
        return self.close.alive and self._process.poll() is None

    def start(self, descriptors: Sequence[int]) -> None:
        """Start a process that reads, with a socket, two files to write to and perhaps the Parquet file."""
        try:
            socket.send_fds(self._socket, [b"read"], descriptors)
        except OSError as error:
            self.close()
            raise OSError(ENDED) from error

    def end_of(self, pid: int) -> int:
        """Return how a process that reads has ended, as ``subprocess`` has it; 0 where it must be ended."""
        try:
            with self._lock:
                self._socket.send(ASKED.pack(pid))
                answer = self._socket.recv(ASKED.size)
            return int(ASKED.unpack(answer)[0])
        except (OSError, ValueError) as error:
            self.close()
            raise OSError(ENDED) from error

    def leave(self) -> None:
        """Let go of it, in a process that was forked from the one that it belongs to: it ends with the last of them."""
        self.close.detach()
        self._socket.close()
        self._process.returncode = 0  # it is no child of this process


def guard() -> Guard:
    """Return that of this process, started anew where it has ended."""
    global _shared
    with _lock:
        if _shared is None or not _shared.alive:
            _shared = Guard()
        return _shared


def _forget() -> None:
    global _shared, _lock
    if _shared is not None:
        _shared.leave()
    _shared, _lock = None, threading.Lock()


_shared: Guard | None = None
_lock = threading.Lock()
os.register_at_fork(after_in_child=_forget)  # who is forked has processes of its own


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    process.kill()
    process.wait()
