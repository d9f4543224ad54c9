"""A side of the comparison as a process of its own: started, watched, told to go on, and its memory measured."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from asr.parsed import JsonObject
from benchmarks.recipe.work import MARK, Work

_SAMPLE_S = 0.1
_LOOK_AROUND_S = 1.0  # for processes that are new, and files that were spilled
_LOG_LINES = 20


@dataclass
class Peak:
    """The most memory in bytes: of the largest process, and of all processes together."""

    process: int = 0
    all: int = 0
    names: dict[str, int] = field(default_factory=dict)
    """The own pages at the peak of all processes, by the name of the process."""


@dataclass(frozen=True)
class Pages:
    """The resident memory of a process in bytes: its own, and that which it may share."""

    name: str
    anonymous: int
    file: int
    shared: int

    @classmethod
    def of(cls, status: str) -> Pages:
        """Read the text of ``/proc/PID/status``, in which a process that is ending has no such lines."""
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        names = ("RssAnon", "RssFile", "RssShmem")
        sizes = (int(fields[name].split()[0]) * 1024 if name in fields else 0 for name in names)
        return cls(fields["Name"].strip(), *sizes)

    @property
    def resident(self) -> int:
        """The resident memory, which tools call RSS."""
        return self.anonymous + self.file + self.shared


def together(processes: list[Pages]) -> int:
    """Return the memory of processes in which libraries, mapped files and Ray's object store count once.

    Once is as often as in the process that has most of them in its memory: all others have much the same ones.
    """
    shared = (max((getattr(pages, kind) for pages in processes), default=0) for kind in ("file", "shared"))
    return sum(pages.anonymous for pages in processes) + sum(shared)


def by_name(processes: list[Pages]) -> dict[str, int]:
    """Return the own pages of processes, those of one name summed."""
    names: dict[str, int] = defaultdict(int)
    for pages in processes:
        names[pages.name] += pages.anonymous
    return dict(names)


class Memory(threading.Thread):
    """Samples the memory of a process and its descendants ten times a second, and keeps the peak of each phase."""

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self.phase = "starting"
        self.peaks: dict[str, Peak] = defaultdict(Peak)
        self.spilled_bytes = 0
        """The most that Ray had moved from its object store to disk."""
        self.resting = False
        """True if there is nothing to sample, because the processes stand still."""
        self._pid, self._folder, self._done = pid, folder, threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        looked, pids = 0.0, [self._pid]
        while not self._done.wait(_SAMPLE_S):
            if self.resting:
                continue
            if time.monotonic() - looked > _LOOK_AROUND_S:
                looked, pids = time.monotonic(), [process.pid for process in _tree(self._pid)]
                self.spilled_bytes = max(self.spilled_bytes, spilled(self._folder))
            pages = [page for page in map(_pages, pids) if page]
            peak = self.peaks[self.phase]
            peak.process = max([peak.process, *(page.resident for page in pages)])
            if together(pages) > peak.all:
                peak.all, peak.names = together(pages), by_name(pages)

    def stop(self) -> None:
        """End the sampling."""
        self._done.set()
        self.join()


def _pages(pid: int) -> Pages | None:
    try:
        return Pages.of(Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def spilled(folder: Path) -> int:
    """Return the bytes of objects that Ray, with its files in ``folder``, has on disk."""
    total = 0
    for path in folder.glob("ray/session_*/ray_spilled_objects*/**/*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


class Side:
    """A process that runs ``python -m MODULE WORK``, to be used as a context: it does not outlive the block."""

    def __init__(self, module: str, work: Work, environment: Mapping[str, str], tell: Callable[[str], None]) -> None:
        self._name, self._tell = Path(work.folder).name, tell
        self._log = Path(work.folder) / "log.txt"
        self._result: JsonObject | None = None
        command = [sys.executable, "-m", module, str(work.write())]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | environment,
                text=True,
            )
        self.memory = Memory(self._process.pid, Path(environment["RAY_TMPDIR"]))
        self.memory.start()

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.memory.stop()
        for process in _tree(self._process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.__exit__(kind, error, trace)  # closes the pipes and waits

    def go(self) -> None:
        """Let a side that pauses go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def until_pause(self) -> None:
        """Return when the side pauses. Raises RuntimeError with its last words where it ends instead."""
        if self._read("paused") is None:
            raise self._failure()

    def result(self) -> JsonObject:
        """Return what the side reports at its end, with its memory. Raises RuntimeError with its last words."""
        result = self._read("result")
        if self._process.wait() or result is None:
            raise self._failure()
        self.memory.stop()
        peak = self.memory.peaks["training"]
        names = {name: round(size / 1e9, 3) for name, size in peak.names.items()}
        return result | {"peak_process_bytes": peak.process, "peak_all_bytes": peak.all, "peak_gb_by_name": names}

    def _failure(self) -> RuntimeError:
        last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return RuntimeError("\n".join([f"{self._name} failed with exit code {self._process.wait()}:", *last]))

    def _read(self, wanted: str) -> JsonObject | None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.startswith(MARK):
                continue
            details = json.loads(line.removeprefix(MARK))
            event = details.pop("event")
            if event == "phase":
                self.memory.phase = details["name"]
            if event != "result":
                self._tell(f"{self._name}: {event} " + " ".join(f"{name}={value}" for name, value in details.items()))
            if event == wanted:
                return dict(details)
        return None


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
