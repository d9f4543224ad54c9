"""Throughput of an endpoint: clients that ask without pause, clip by clip, more of them each time.

    .venv/bin/python -m benchmarks.saturation MODEL [--clients 1,8,32,128] [--clips 256] [--save FILE] [key=value ...]

``key=value`` are the endpoint's settings, as `whisperfleet serve` takes them: gpu=1 engine=torch. Italian prompts, the
test split first; every client's first clip is asked for once before. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from asr.config import resolve
from asr.data.manifest import read_manifest
from asr.data.sources import SourceConfig
from asr.parsed import JsonObject
from asr.scoring.error_rates import score
from benchmarks.provenance import provenance, tell
from benchmarks.serving.host import LANGUAGE
from benchmarks.serving.load import saturating
from benchmarks.serving.speech import Spoken
from serve.app import running
from serve.config import ServeConfig
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("model")
    options.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options.add_argument("--clients", default="1,8,32,128")
    options.add_argument("--clips", type=int, default=256)
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    levels = [int(level) for level in asked.clients.split(",")]
    words = [f"model={asked.model}", "port=0", f"max_queued={2 * max(levels)}", *asked.settings]
    config = resolve(ServeConfig, None, words).value
    with TemporaryDirectory(prefix="wf-") as folder:
        clips = speech(Path(folder), asked.clips)
        with running(config) as url:
            levels_found = [_level(url, clips, level) for level in levels]
    result = {
        "benchmark": "saturation",
        "model": asked.model,
        "settings": asked.settings,
        "clips": len(clips),
        "audio_s": round(sum(clip.duration_s for clip in clips), 1),
        "levels": levels_found,
        **provenance(("whisperfleet", "ray", "torch", "transformers")),
    }
    table = Table("clients", "audio s/s", "p50, ms", "p95, ms", "WER", "errors", title=" ".join(asked.settings))
    for row in levels_found:
        table.add_row(*(str(row[name]) for name in ("clients", "audio_per_s", "p50_ms", "p95_ms", "wer", "errors")))
    Console().print(table)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def speech(folder: Path, count: int) -> list[Spoken]:
    """Return the first clips of all splits, those that no artifact was trained on first."""
    prepared = prepare(rows_of(SourceConfig(source=f"prompts:{LANGUAGE}")), folder, PrepareConfig())
    rows = [row for name in ("test", "train", "validation") for row in read_manifest(prepared.manifests[name])]
    return [Spoken(Path(str(row.audio)), row.text, row.duration_s or 0.0) for row in rows[:count]]


def _level(url: str, clips: list[Spoken], clients: int) -> JsonObject:
    saturating(url, clips[:clients], clients, LANGUAGE)
    heard = saturating(url, clips, clients, LANGUAGE)
    taken = sorted(1000 * latency_s for latency_s in heard.latencies_s)
    found = {
        "clients": clients,
        "audio_per_s": round(sum(clip.duration_s for clip in clips) / heard.seconds, 1),
        "p50_ms": round(taken[len(taken) // 2], 1),
        "p95_ms": round(taken[len(taken) * 95 // 100], 1),
        "wer": round(score([clip.text for clip in clips], heard.texts).rate, 4),
        "errors": len(heard.errors),
    }
    tell(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
