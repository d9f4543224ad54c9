"""Decoding in processes that may die: which of many files kills one, holds it up or makes it swell."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from asr.audio import AudioLimits, decode
from asr.errors import DataError
from tests.serve.mutations import damaged

LIMITS = AudioLimits(max_bytes=1_000_000, max_audio_s=30.0, max_source_samples=5_000_000)
TIME_LIMIT_S = 20.0  # for what takes milliseconds, on a machine that is busy
START_LIMIT_S = 120.0
MEMORY_LIMIT_MB = 300  # on top of what the process began with; ten times the limits above

Attempt = Callable[[bytes], str]


@dataclass
class Fate:
    """What became of the files: ``faults`` say which seed number did what, ``outcomes`` count kinds and answers."""

    faults: list[str] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


def outcome(data: bytes) -> str:
    """Decode a file: ``sound``, or the reason for which it is refused."""
    try:
        decode(data, limits=LIMITS)
    except DataError as error:
        return error.reason
    return "sound"


def decode_all(
    numbers: Sequence[int], processes: int = 2, attempt: Attempt = outcome, time_limit_s: float = TIME_LIMIT_S
) -> Fate:
    """Decode the damaged files with these seed numbers, in processes that are replaced when they fail."""
    fate = Fate()

    def work(part: list[int]) -> None:
        while part:
            with _Child(part, attempt, time_limit_s) as child:
                del part[: child.until_a_fault(fate)]

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(work, (list(numbers[i::processes]) for i in range(processes))))
    return fate


class _Child:
    """A fresh process for some of the files, to be used as a context."""

    def __init__(self, numbers: Sequence[int], attempt: Attempt, time_limit_s: float) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit Ray's threads and locks
        self._numbers, self._time_limit_s = tuple(numbers), time_limit_s
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_attempt_all, args=(theirs, self._numbers, attempt), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()

    def until_a_fault(self, fate: Fate) -> int:
        """Return how many files were tried, the one at fault included."""
        assert self._ours.poll(START_LIMIT_S) and self._ours.recv() == "ready"
        for done, number in enumerate(self._numbers, start=1):
            fault = self._next(fate)
            if fault:
                fate.faults.append(f"number {number} ({damaged(number)[0]}) {fault}")
                return done
        return len(self._numbers)

    def _next(self, fate: Fate) -> str:
        """Return what was wrong with the next file, or nothing."""
        if not self._ours.poll(self._time_limit_s):
            return f"took over {self._time_limit_s:g} s"
        try:
            kind, answer, error, grown_mb = self._ours.recv()
        except EOFError:
            self._process.join()
            return f"ended the process with {self._process.exitcode}"
        if error:
            return f"raised {error}"
        fate.outcomes[kind, answer] += 1
        return f"took {grown_mb} MB" if grown_mb > MEMORY_LIMIT_MB else ""


def _attempt_all(theirs: Connection, numbers: Sequence[int], attempt: Attempt) -> None:
    before_mb = _peak_mb()
    theirs.send("ready")
    for number in numbers:
        kind, data = damaged(number)
        answer = error = ""
        try:
            answer = attempt(data)
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        theirs.send((kind, answer, error, _peak_mb() - before_mb))


def _peak_mb() -> int:
    # Not ru_maxrss: a process that was spawned begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


VICTIM = 5  # the seed number of the file that the functions below cannot bear: children import them from here


def abort(data: bytes) -> str:
    if data == damaged(VICTIM)[1]:
        os.abort()
    return "sound"


def stall(data: bytes) -> str:
    if data == damaged(VICTIM)[1]:
        time.sleep(60)
    return "sound"


def swell(data: bytes) -> str:
    if data == damaged(VICTIM)[1]:
        bytearray(b"x") * (400 << 20)
    return "sound"


def fail(data: bytes) -> str:
    if data == damaged(VICTIM)[1]:
        raise KeyError("a bug")
    return "sound"
