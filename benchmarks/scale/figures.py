"""A measured number with its unit and the size it was measured at, and the tables and growth made of them."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from asr.parsed import JsonObject


@dataclass(frozen=True)
class Figure:
    """``what`` was measured, ``at`` which size or in which way, and ``value`` in ``unit``."""

    what: str
    at: str
    value: float
    unit: str

    def as_json(self) -> JsonObject:
        """Return the same for machines, to four digits."""
        return {"what": self.what, "at": self.at, "value": rounded(self.value), "unit": self.unit}


@dataclass(frozen=True)
class Sizes:
    """Sizes at which the parts are measured. ``SMALL`` shows in seconds that all of them run, and no more."""

    utterances: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    admitted: tuple[int, ...] = (30_000, 100_000)
    checkpoint: str = "builtin:base"
    prompts: int | None = None
    """Of real speech that is prepared; all where it is None."""
    decoder: str = "builtin:tiny.en"
    """Device of the simulated replicas: a fast one makes fewer events of as many requests."""
    workers: int = 1000
    rows: int = 4000
    """Micro-batches through Ray Data without work in them; an eighth of them with it."""
    pipelines: tuple[int, ...] = (1, 2, 4)
    posts: int = 20_000
    connections: tuple[int, ...] = (1, 8, 64)
    requests: int = 400
    calls: int = 600
    waiting: tuple[int, ...] = (10, 100, 1000, 10_000)
    offered_per_s: float = 10_000.0
    simulated_s: float = 30.0
    rounds: int = 3


SMALL = Sizes(
    utterances=(2_000,),
    admitted=(200,),
    checkpoint="builtin:tiny.en",
    prompts=40,
    workers=4,
    rows=16,
    pipelines=(1,),
    posts=50,
    connections=(2,),
    requests=6,
    calls=6,
    waiting=(10, 20),
    offered_per_s=40.0,
    simulated_s=10.0,
    rounds=1,
)

Part = Callable[[Sizes], list[Figure]]


def rounded(value: float) -> float:
    """Return a number to four digits."""
    if not value or not math.isfinite(value):
        return value
    digits = 3 - math.floor(math.log10(abs(value)))
    return round(value, digits) if digits > 0 else float(round(value))


def load_average() -> float:
    """Return how many processes wanted a core in the last minute: more than there are make seconds longer."""
    return round(os.getloadavg()[0], 2)


def median_s(work: Callable[[], object], rounds: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median of the seconds that some work takes."""
    times = []
    for _ in range(rounds):
        begun = clock()
        work()
        times.append(clock() - begun)
    return statistics.median(times)


def median_core_s(work: Callable[[], object], rounds: int) -> float:
    """Return the median of the core seconds that some work of this process takes, whoever else wants the cores."""
    return median_s(work, rounds, time.process_time)


def growth(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent with which values grow from the last but one size to the last: 1 is linear."""
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def table(name: str, part: JsonObject) -> Table:
    """Return the figures of one part for people."""
    before, after = part["load_average"]
    title = f"{name}: {part['seconds']:.0f} s, load average {before} before, {after} after"
    drawn = Table("what", "at", "value", "unit", title=title)
    for one in part["figures"]:
        drawn.add_row(one["what"], one["at"], f"{one['value']:,.6g}", one["unit"])
    return drawn
