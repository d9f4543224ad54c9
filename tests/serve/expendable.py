"""A decoding child that does what a codec might do wrong: what is uploaded says which. And the fuzz's own children."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asr.audio.container import OpenFile
from asr.audio.decode import AudioLimits, decode_to
from asr.audio.sandbox import Child
from asr.audio.sandbox_answers import DIED
from asr.audio.sandbox_child import main
from asr.errors import DataError
from asr.sound import SoundReport
from tests.serve.mutations import damaged

LIMITS = AudioLimits(max_bytes=1_000_000, max_audio_s=30.0, max_source_samples=5_000_000)
TIME_LIMIT_S = 20.0  # for what takes milliseconds, on a machine that is busy
MEMORY_LIMIT_BYTES = 300 << 20  # ten times the limits above

ABORT, STALL, SWELL, FAIL, LIE = b"ABORT", b"STALL", b"SWELL", b"FAIL", b"LIE"


@dataclass
class Fate:
    """What became of the files: ``faults`` say which seed number did what, ``outcomes`` count kinds and answers."""

    faults: list[str] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


def decode_all(numbers: Sequence[int], processes: int = 2) -> Fate:
    """Decode the damaged files with these seed numbers, in the endpoint's own children on a shorter leash."""
    fate = Fate()

    def work(part: Sequence[int]) -> None:
        child = Child(memory_bytes=MEMORY_LIMIT_BYTES, stall_s=TIME_LIMIT_S)
        for number in part:
            kind, data = damaged(number)
            try:
                child.decode(data, LIMITS)
                answer = "sound"
            except DataError as error:
                answer = error.reason
                if answer == DIED:
                    fate.faults.append(f"number {number} ({kind}): {error.detail}")
            fate.outcomes[kind, answer] += 1
            if not child.alive:
                child = Child(memory_bytes=MEMORY_LIMIT_BYTES, stall_s=TIME_LIMIT_S)
        child.close()

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(work, (list(numbers[i::processes]) for i in range(processes))))
    return fate


def decode_or_worse(sink: Callable[[np.ndarray], object], source: OpenFile, **asked: Any) -> SoundReport:
    """Decode, but for files that are one word."""
    content = source.file.read()
    if content == ABORT:
        os.abort()
    if content == STALL:
        time.sleep(600)
    if content == SWELL:
        bytearray(MEMORY_LIMIT_BYTES + (100 << 20))
    if content == FAIL:
        raise KeyError("a bug")
    if content == LIE:
        return SoundReport(1_000_000)
    return decode_to(sink, source, **asked)


if __name__ == "__main__":
    assert len(sys.argv) > 2
    main(decode_or_worse)
