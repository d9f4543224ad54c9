"""Processes that have imported torch and the like already, forked from one that does it once for a test process."""

from __future__ import annotations

import atexit
import inspect
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray._private.services

from cluster.project import ROOT
from tests.warm.client import ADDRESS, RAY_WORKER, ask, has_ended

_STREAMS = ("stdout", "stderr")


@dataclass(frozen=True)
class Ended:
    """What a process had said by its end."""

    stdout: str
    stderr: str


class Script:
    """Python code in a process of its own, with this one's environment and working directory."""

    def __init__(self, code: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._said = Path(tempfile.mkdtemp(prefix="wf-warm-"))
        command, told = ["-c", code, *arguments], {**os.environ, **(environment or {})}
        with (
            open(os.devnull) as nothing,
            (self._said / "stdout").open("a") as stdout,
            (self._said / "stderr").open("a") as stderr,
        ):
            streams = nothing.fileno(), stdout.fileno(), stderr.fileno()
            self._process = ask(_server(), command, told, os.getcwd(), streams)
        self._end = weakref.finalize(self, _end, self._process, self._said)

    def wait(self, timeout_s: float) -> Ended:
        """Return what it said. One that has not ended by then is killed."""
        if not has_ended(self._process, timeout_s):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
            has_ended(self._process)
        said = Ended(*((self._said / name).read_text() for name in _STREAMS))
        self._end()
        return said


def _end(process: int, said: Path) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)
    os.close(process)
    shutil.rmtree(said)


@contextmanager
def warm_ray() -> Iterator[None]:
    """Have workers of a Ray that starts in the block be forked. Commands that a test runs start theirs as users do."""
    start = ray._private.services.start_raylet
    signature = inspect.signature(start)

    def start_warm(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named)
        bound.arguments["setup_worker_path"] = RAY_WORKER
        _server()
        return start(*bound.args, **bound.kwargs)

    ray._private.services.start_raylet = start_warm
    try:
        yield
    finally:
        ray._private.services.start_raylet = start


def warm(command: Sequence[str]) -> list[str]:
    """Return ``PYTHON -m MODULE ARGUMENTS`` so that the workers of a Ray that it starts are forked.

    It works in a folder that has our tests, and as long as this process is there.
    """
    _server()
    python, option, *words = command
    assert option == "-m"
    return [python, "-m", "tests.warm", *words]


def _server() -> str:
    """Start the server once; return where it listens, though it imports yet.

    What this process starts finds it by its environment.
    """
    if ADDRESS in os.environ:
        return os.environ[ADDRESS]
    address = f"wf-warm-{os.getpid()}-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{address}")
        listener.listen(64)
        number = listener.fileno()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm.server", str(number)],
            cwd=ROOT,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[number],
        )
    atexit.register(server.communicate)  # it ends with its input, and so it does where this process is killed
    os.environ[ADDRESS] = address
    return address
