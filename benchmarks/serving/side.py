"""A side of the comparison: a process of its own that waits for its turn, and whose memory is measured."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil

from asr.parsed import JsonObject
from benchmarks.provenance import tell
from benchmarks.recipe.side import Memory
from benchmarks.recipe.work import MARK

_LOG_LINES = 20
_SETTLE_S = 5.0


class Side:
    """A process that runs ``python -m benchmarks.serving.host NAME MODEL THREADS``, to be used as a context.

    Within the context ``url`` is where it answers, None for a library.
    """

    def __init__(self, name: str, model: str, threads: int, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.serving.host", name, model, str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | environment,
                text=True,
            )
        self.memory = Memory(self._process.pid, folder)
        self.memory.start()

    def __enter__(self) -> Side:
        self.url: str | None = self.answer()["url"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.memory.stop()
        self._signal(signal.SIGCONT)
        children = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=60)  # the end of its input tells it to end
        for process in [*children, self._process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let its processes run for the length of the block, and stand still after it until the next one.

        A Ray that idles takes a tenth of a core, which would be missing in the other sides' turns.
        """
        self._signal(signal.SIGCONT)
        self.memory.resting = False
        time.sleep(_SETTLE_S)  # timers that were due meanwhile
        try:
            yield
        finally:
            self.memory.resting = True
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is not None:
            return
        for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @property
    def peak_mb(self) -> float:
        """The most memory that its processes had together since it was started, in MB (10^6 bytes)."""
        return max(peak.all for peak in self.memory.peaks.values()) / 1e6

    def ask(self, paths: Sequence[Path], clients: int) -> JsonObject:
        """Have a side without an address transcribe files, so many at a time."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"paths": [str(path) for path in paths], "clients": clients}) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> JsonObject:
        """Return what the side says next. Raises RuntimeError with its last words where it has ended instead."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return dict(json.loads(line.removeprefix(MARK)))
        last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise RuntimeError("\n".join([f"{self.name} ended with exit code {self._process.wait()}:", *last]))


def started(name: str, model: str, folder: Path, variables: Mapping[str, str] | None = None) -> Side:
    """Start a side on all cores, with a folder of its own in ``folder``, and ``variables`` of the environment."""
    tell(f"starting {name}")
    own = folder / name
    own.mkdir()
    threads = os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "RAY_TMPDIR": str(own)}
    return Side(name, model, threads, environment | dict(variables or {}), own)
