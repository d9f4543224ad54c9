"""The endpoint under steady load: no error, and memory that does not grow.

    .venv/bin/python -m benchmarks.soak [MODEL] [--minutes 20] [--save benchmarks/results/soak.json]

Four clients ask without pause: short clips of the Italian prompts, and now and then a file of two minutes. Memory is
that of all processes of the endpoint together, the peak of every ten seconds. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from asr.parsed import JsonObject
from benchmarks.provenance import provenance, tell
from benchmarks.serving.__main__ import DEMO, VERSIONS
from benchmarks.serving.host import LANGUAGE, OURS
from benchmarks.serving.load import FAILURES, ask, open_session
from benchmarks.serving.side import Side, started
from benchmarks.serving.speech import Spoken, short_and_long

CLIENTS = 4
CLIPS = 64
LONG_S = 120.0
LONG_EVERY = 50
WINDOW_S = 10.0
WARMING_SHARE = 0.25  # of the time, in which caches and allocators still grow to their size


@dataclass
class Soak:
    """Results of the soak so far. ``memory_mb`` are peaks of ``WINDOW_S`` each."""

    requests: int = 0
    errors: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    def result(self) -> JsonObject:
        """Return the figures of the JSON line."""
        settled = self.memory_mb[int(len(self.memory_mb) * WARMING_SHARE) :]
        return {
            "requests": self.requests,
            "errors": len(self.errors),
            "memory_slope_pct_per_h": round(slope_pct_per_h(settled, WINDOW_S), 2),
            "memory_mb": round(float(np.mean(settled))),
            "peak_memory_mb": round(max(self.memory_mb)),
            "p50_ms": round(1000 * float(np.percentile(self.latencies_s, 50))),
            "p95_ms": round(1000 * float(np.percentile(self.latencies_s, 95))),
            "first_errors": self.errors[:5],
        }


def slope_pct_per_h(values: Sequence[float], every_s: float) -> float:
    """Return the slope of the line through values, in per cent of their mean an hour; 0.0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    hours = np.arange(len(values)) * every_s / 3600
    return float(100 * np.polyfit(hours, values, 1)[0] / np.mean(values))


def requests(short: Sequence[Spoken], long: Spoken) -> Iterator[Spoken]:
    """Yield what is asked, without end: short clips in turn, and the long file once in ``LONG_EVERY``."""
    clips = itertools.cycle(short)
    for number in itertools.count(1):
        yield long if number % LONG_EVERY == 0 else next(clips)


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("model", nargs="?", default=str(DEMO) if DEMO.is_dir() else "builtin:base")
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    with TemporaryDirectory(prefix="wf-") as folder:
        result = run(asked.model, asked.minutes, Path(folder))
    drawn = Table("requests", "errors", "memory, % per hour", "memory, MB", "p50 / p95, ms", title=asked.model)
    figures = [result[name] for name in ("requests", "errors", "memory_slope_pct_per_h", "memory_mb")]
    drawn.add_row(*map(str, figures), f"{result['p50_ms']} / {result['p95_ms']}")
    Console().print(drawn)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def run(model: str, minutes: float, folder: Path) -> JsonObject:
    """Return all figures; ``folder`` is for everything that is written on the way."""
    tell("preparing speech")
    short, long = short_and_long(LANGUAGE, folder, CLIPS, LONG_S)
    with started(OURS[0], model, folder) as side:
        soak = asyncio.run(_soak(side, requests(short, long), minutes * 60))
    return {"benchmark": "soak", **soak.result(), "model": model, "minutes": minutes, **provenance(VERSIONS)}


async def _soak(side: Side, asked: Iterator[Spoken], seconds: float) -> Soak:
    soak, until = Soak(), time.monotonic() + seconds
    async with open_session() as session:

        async def client() -> None:
            while time.monotonic() < until:
                sent = time.monotonic()
                soak.requests += 1
                try:
                    await ask(session, str(side.url), next(asked), LANGUAGE)
                except FAILURES as error:
                    soak.errors.append(repr(error)[:300])
                soak.latencies_s.append(time.monotonic() - sent)

        async def watch() -> None:
            while time.monotonic() < until:
                phase = side.memory.phase = f"window {len(soak.memory_mb)}"
                await asyncio.sleep(min(WINDOW_S, until - time.monotonic()))
                soak.memory_mb.append(side.memory.peaks[phase].all / 1e6)
                if len(soak.memory_mb) % 6 == 0:
                    last_mb = soak.memory_mb[-1]
                    tell(f"{soak.requests} requests, {len(soak.errors)} errors, {last_mb:.0f} MB")

        await asyncio.gather(watch(), *(client() for _ in range(CLIENTS)))
    return soak


if __name__ == "__main__":
    main()
