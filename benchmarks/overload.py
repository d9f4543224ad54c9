"""The endpoint under far more than it can serve: is it still there, and does it answer what it took in.

    .venv/bin/python -m benchmarks.overload [MODEL] [--factor 10] [--seconds 30] [--save FILE]

First eight clients ask without pause, for the load that can be served. Then requests come at ``--factor`` times that
rate, answered or not, short clips of the Italian prompts. All along another process asks ``/healthz``, and a bare
server beside it, which tells how long the busy machine itself makes everybody wait. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from asr.parsed import JsonObject
from benchmarks.probe import bare, probing
from benchmarks.provenance import provenance, tell
from benchmarks.serving.__main__ import DEMO, VERSIONS
from benchmarks.serving.host import LANGUAGE
from benchmarks.serving.load import open_session, saturating
from benchmarks.serving.speech import Spoken, short_and_long
from serve.app import running
from serve.config import ServeConfig

CLIENTS = 8
CLIPS = 64
LONG_S = 60.0  # not used, but made with the clips


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("model", nargs="?", default=str(DEMO) if DEMO.is_dir() else "builtin:base")
    options.add_argument("--factor", type=float, default=10.0)
    options.add_argument("--seconds", type=float, default=30.0)
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    with TemporaryDirectory(prefix="wf-") as folder:
        result = run(asked.model, asked.factor, asked.seconds, Path(folder))
    drawn = Table(
        "load", "offered", "answered", "refused", "errors", "healthz p50 / p99, ms", "bare", title=asked.model
    )
    counts = [result[name] for name in ("load_factor", "offered", "answered", "refused", "errors")]
    both = [f"{result[f'{name}_p50_ms']} / {result[f'{name}_p99_ms']}" for name in ("healthz", "bare")]
    drawn.add_row(*map(str, counts), *both)
    Console().print(drawn)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def run(model: str, factor: float, seconds: float, folder: Path) -> JsonObject:
    """Return all figures; ``folder`` is for the clips."""
    tell("preparing speech")
    short, _ = short_and_long(LANGUAGE, folder, CLIPS, LONG_S)
    tell("starting the endpoint")
    with running(ServeConfig(model=model, name="bench", port=0)) as url:
        tell("finding what can be served")
        saturating(url, short[:CLIENTS], CLIENTS, LANGUAGE)
        with probing(f"{url}/healthz") as idle:
            heard = saturating(url, short, CLIENTS, LANGUAGE)
        served_per_s = len(short) / heard.seconds
        tell(f"{served_per_s:.1f} requests a second are served: offering {factor:g} times that")
        with bare() as other, probing(other) as control, probing(f"{url}/healthz") as found:
            offered = asyncio.run(offer(url, short, factor * served_per_s, seconds))
        after = saturating(url, short[:CLIENTS], CLIENTS, LANGUAGE)
    answered, refused = offered.pop("200", 0), offered.pop("429", 0)
    return {
        "benchmark": "overload",
        **figures("healthz", found),
        **figures("healthz_served_load", idle),
        **figures("bare", control),
        "load_factor": factor,
        "served_per_s": round(served_per_s, 2),
        "offered": answered + refused + sum(offered.values()),
        "answered": answered,
        "refused": refused,
        "errors": sum(offered.values()),
        "kinds_of_errors": dict(offered),
        "answered_afterwards": len(after.texts) - len(after.errors),
        "seconds": seconds,
        "model": model,
        **provenance(VERSIONS),
    }


def figures(name: str, latencies_s: Sequence[float]) -> dict[str, float]:
    """Return percentiles of what a prober measured; one that got no answer counts as infinite, which is -1 here."""
    found = {}
    for label, share in (("p50", 50), ("p99", 99), ("max", 100)):
        value = float(np.percentile(latencies_s, share, method="higher"))
        found[f"{name}_{label}_ms"] = round(1000 * value, 1) if np.isfinite(value) else -1.0
    return found


async def offer(url: str, speech: Sequence[Spoken], per_s: float, seconds: float) -> Counter[str]:
    """Send so many requests a second for so long, whatever becomes of them; count what they were answered with."""
    kinds: Counter[str] = Counter()
    clips = itertools.cycle([(spoken.path.read_bytes()) for spoken in speech])
    async with open_session() as session:

        async def one(audio: bytes) -> None:
            form = aiohttp.FormData({"model": "whisper-1", "language": LANGUAGE})
            form.add_field("file", audio, filename="clip.flac", content_type="audio/flac")
            try:
                async with session.post(f"{url}/v1/audio/transcriptions", data=form) as answer:
                    await answer.read()
                    kinds[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                kinds[type(error).__name__] += 1

        begun, sent = time.perf_counter(), []
        for number in range(int(per_s * seconds)):
            await asyncio.sleep(max(0.0, begun + number / per_s - time.perf_counter()))
            sent.append(asyncio.create_task(one(next(clips))))
        await asyncio.gather(*sent)
    return kinds


if __name__ == "__main__":
    main()
