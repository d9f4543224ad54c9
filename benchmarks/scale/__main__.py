"""Bounds of each part of a fine-tune and of an endpoint at sizes that no test has: measured in parts, as tables.

    .venv/bin/python -m benchmarks.scale [--parts plan,rows,...] [--small] [--save benchmarks/results/scale.json]

docs/scale.md says what the figures mean. Parts that are not asked for keep what the saved file has of them. The load
average stands beside each part: seconds are those of a machine that has nothing else to do. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console

from asr.parsed import JsonObject
from benchmarks.provenance import provenance, tell
from benchmarks.scale.figures import SMALL, Part, Sizes, load_average, table

# Imported where they are asked for: one process must not hold torch, Ray and ten million utterances.
PARTS = {
    "plan": "benchmarks.scale.plan:plan",
    "admission": "benchmarks.scale.admission:admission",
    "rows": "benchmarks.scale.rows:rows",
    "coordinator": "benchmarks.scale.coordinator:coordinator",
    "driver": "benchmarks.scale.driver:driver",
    "ingress": "benchmarks.scale.ingress:ingress",
    "router": "benchmarks.scale.router:router",
    "scheduler": "benchmarks.scale.scheduler:scheduler",
    "simulation": "benchmarks.scale.simulation:simulation",
}
VERSIONS = ("whisperfleet", "ray", "numpy", "pyarrow", "transformers", "fastapi", "uvicorn")


def main() -> None:
    """Print a table for each part, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--small", action="store_true", help="tiny sizes: does it run")
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    names = asked.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        options.error(f"no part {unknown[0]}: choose from {', '.join(PARTS)}")
    parts, console = _saved(asked.save), Console(width=140)
    for name in names:
        parts[name] = run(name, SMALL if asked.small else Sizes())
        console.print(table(name, parts[name]))
        result = {"benchmark": "scale", "parts": {name: parts[name] for name in PARTS if name in parts}}
        if asked.save:
            asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def run(name: str, sizes: Sizes) -> JsonObject:
    """Measure one part."""
    tell(f"part {name}")
    before, begun = load_average(), time.perf_counter()
    figures = [figure.as_json() for figure in _part(name)(sizes)]
    return {
        "load_average": [before, load_average()],
        "seconds": round(time.perf_counter() - begun, 1),
        **provenance(VERSIONS),
        "figures": figures,
    }


def _part(name: str) -> Part:
    module, function = PARTS[name].split(":")
    part: Part = getattr(import_module(module), function)
    return part


def _saved(file: Path | None) -> JsonObject:
    if file is None or not file.exists():
        return {}
    parts: JsonObject = json.loads(file.read_text(encoding="utf-8"))["parts"]
    return parts


if __name__ == "__main__":
    main()
