"""Overhead of HTTP and Serve on a request: behind Ray's HAProxy, as the endpoint runs, and through Ray's own proxy.

    .venv/bin/python -m benchmarks.overhead [MODEL] [--save benchmarks/results/overhead.json]

Each clip is asked of an endpoint and of the engine alone, one straight after the other; the best of three times
counts, the median over the clips is told. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from asr.parsed import JsonObject
from benchmarks.provenance import provenance, tell
from benchmarks.serving.__main__ import DEMO, VERSIONS, alternating, take_turn
from benchmarks.serving.figures import overhead_ms, percentile_ms
from benchmarks.serving.host import DIRECT, LANGUAGE, OURS, RAY_PROXY
from benchmarks.serving.load import open_session
from benchmarks.serving.side import Side, started
from benchmarks.serving.speech import Spoken, short_and_long
from serve.haproxy import SWITCH

CLIPS = 64
LONG_S = 60.0  # not used, but made with the clips
HEALTH_CHECKS = 200
PROXIES = {"haproxy": OURS[0], "ray": RAY_PROXY}


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("model", nargs="?", default=str(DEMO) if DEMO.is_dir() else "builtin:base")
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    with TemporaryDirectory(prefix="wf-") as folder:
        result = run(asked.model, Path(folder))
    drawn = Table("proxy", "added, ms", "a clip, served / alone, ms", "healthz, ms", title=asked.model)
    for proxy in PROXIES:
        clip = f"{result['served_ms_p50'][proxy]} / {result['direct_ms_p50'][proxy]}"
        drawn.add_row(proxy, str(result["serve_overhead_ms_p50"][proxy]), clip, str(result["healthz_ms_p50"][proxy]))
    Console().print(drawn)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def run(model: str, folder: Path) -> JsonObject:
    """Return all figures; ``folder`` is for everything that is written on the way."""
    tell("preparing speech")
    short, _ = short_and_long(LANGUAGE, folder, CLIPS, LONG_S)
    found: dict[str, dict[str, float]] = {}
    with started(DIRECT, model, folder) as direct:
        take_turn(direct, "saturating", 1, short[:2])
        for proxy, name in PROXIES.items():
            with started(name, model, folder, {SWITCH: "1" if proxy == "haproxy" else "0"}) as endpoint:
                found[proxy] = _measured(endpoint, direct, short)
    figures = {name: {proxy: round(found[proxy][name], 1) for proxy in PROXIES} for name in found["haproxy"]}
    return {"benchmark": "overhead", **figures, "clips": len(short), "model": model, **provenance(VERSIONS)}


def _measured(endpoint: Side, direct: Side, short: list[Spoken]) -> dict[str, float]:
    take_turn(endpoint, "saturating", 1, short[:2])
    turns = alternating(endpoint, direct, short)
    with endpoint.turn():
        healthz_ms = asyncio.run(_health_ms(f"{endpoint.url}/healthz"))
    return {
        "serve_overhead_ms_p50": overhead_ms(turns, endpoint.name),
        "served_ms_p50": percentile_ms([turn for turn in turns if turn.side == endpoint.name], 50),
        "direct_ms_p50": percentile_ms([turn for turn in turns if turn.side == DIRECT], 50),
        "healthz_ms_p50": healthz_ms,
    }


async def _health_ms(url: str) -> float:
    taken_ms = []
    async with open_session() as session:
        for _ in range(HEALTH_CHECKS):
            begun = time.perf_counter()
            async with session.get(url) as answer:
                await answer.read()
            taken_ms.append(1000 * (time.perf_counter() - begun))
    return median(taken_ms)


if __name__ == "__main__":
    main()
