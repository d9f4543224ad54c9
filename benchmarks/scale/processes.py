"""Use of resources by the processes we started: core seconds by kind of process, and our own peak of memory."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
# Fields behind the name in /proc/PID/stat (proc(5)); the times are a process's own and those of its children that have
# ended, in the kernel and outside: each upload is decoded in a process of its own.
_PARENT, _TIMES, _OWN_TIMES = 1, slice(11, 15), slice(11, 13)


@dataclass
class Used:
    """Core seconds by kind, filled when the block has ended."""

    core_s: dict[str, float] = field(default_factory=dict)
    busiest_s: dict[str, float] = field(default_factory=dict)

    def of(self, kind: str) -> float:
        """Return those of one kind, 0 where none was seen."""
        return self.core_s.get(kind, 0.0)

    def of_the_busiest_thread(self, kind: str) -> float:
        """Return those of the one thread of a kind that used most, 0 where none was seen."""
        return self.busiest_s.get(kind, 0.0)


class _Process(NamedTuple):
    parent: int
    line: str
    core_s: float
    threads_s: Mapping[int, float]


@contextmanager
def using(kinds: Mapping[str, str]) -> Iterator[Used]:
    """Count the core seconds of all processes below this one during the block, by part of their command line.

    Those of a process that has ended count as its parent's.

    ``kinds`` maps what is looked for in a command line to the name of the kind; the first that is found counts.
    """
    used = Used()
    before = _below(os.getpid())
    yield used
    totals: dict[str, float] = defaultdict(float)
    busiest: dict[str, float] = defaultdict(float)
    for number, process in _below(os.getpid()).items():
        kind = next((name for part, name in kinds.items() if part in process.line), None)
        if kind is not None:
            earlier = before.get(number, _Process(0, "", 0.0, {}))
            totals[kind] += process.core_s - earlier.core_s
            for thread, core_s in process.threads_s.items():
                busiest[kind] = max(busiest[kind], core_s - earlier.threads_s.get(thread, 0.0))
    used.core_s, used.busiest_s = dict(totals), dict(busiest)


def _below(root: int) -> dict[int, _Process]:
    """Return the processes that another one started, or that these started."""
    everyone = _processes()
    below: dict[int, _Process] = {}
    for number, process in everyone.items():
        parent = process.parent
        while parent != root and parent in everyone:
            parent = everyone[parent].parent
        if parent == root:
            below[number] = process
    return below


def _processes() -> dict[int, _Process]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            core_s = sum(map(int, fields[_TIMES])) / _TICKS
            found[int(folder.name)] = _Process(int(fields[_PARENT]), line, core_s, _threads(folder))
    return found


def _threads(process: Path) -> dict[int, float]:
    """Return the core seconds of each thread of a process, by its number."""
    found = {}
    with suppress(OSError):  # the process, or a thread, has ended meanwhile
        for thread in process.glob("task/*/stat"):
            fields = thread.read_text().rpartition(")")[2].split()
            found[int(thread.parent.name)] = sum(map(int, fields[_OWN_TIMES])) / _TICKS
    return found


def reset_peak() -> None:
    """Forget the peak of this process's memory so far."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return the most memory that this process held since the last reset, shared pages included."""
    return _status("VmHWM")


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    return _status("VmRSS")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")
