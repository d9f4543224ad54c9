"""The windows of a long file, by their longest length: words lost, and processor time, beside faster-whisper's.

    .venv/bin/python -m benchmarks.long_file [MODEL] [--lengths 8,30] [--long-s 1200] [--threads 1] [--save FILE]

The file is that of ``benchmarks.serving``. It is decoded, cut and transcribed in process, with windows of each length
at their own context, and once more padded to 30 s, then by faster-whisper's batched pipeline where that is installed.
Processor time is of all threads, so that other work on the machine matters little. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from asr.inference.engine import FastEngine, load_engine
from asr.inference.transcribe import transcribe
from asr.models.export import engine_of_export, exported
from asr.parsed import JsonObject
from asr.scoring.error_rates import score
from benchmarks.provenance import provenance, tell
from benchmarks.serving.__main__ import DEMO
from benchmarks.serving.host import LANGUAGE
from benchmarks.serving.speech import Spoken, short_and_long


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("model", nargs="?", default=str(DEMO) if DEMO.is_dir() else "builtin:base")
    options.add_argument("--lengths", default="8,30")
    options.add_argument("--long-s", type=float, default=1200.0)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    with TemporaryDirectory() as folder:
        _, long = short_and_long(LANGUAGE, Path(folder), 1, asked.long_s)
        rows = list(measured(asked.model, long, [float(each) for each in asked.lengths.split(",")], asked.threads))
    versions = ("ctranslate2", "faster-whisper") if find_spec("faster_whisper") else ("ctranslate2",)
    result = {
        "benchmark": "long_file",
        "model": asked.model,
        "long_s": round(long.duration_s, 1),
        "words": len(long.text.split()),
        "runs": rows,
        **provenance(versions),
    }
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(cell) for cell in row.values()))
    Console(width=160).print(table)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def measured(model: str, long: Spoken, lengths_s: list[float], threads: int) -> list[JsonObject]:
    """Return a row for each way to transcribe the file."""
    engine = load_engine(model, "model", "ctranslate2", threads=threads)
    assert isinstance(engine, FastEngine)
    info = replace(engine.info, context="short")
    ways = [(f"windows of {each:g} s", replace(engine, info=replace(info, speech_s=each))) for each in lengths_s]
    ways.append(("windows of 30 s, padded", replace(engine, info=replace(info, context="full"))))
    heard: dict[str, Callable[[], str]] = {
        name: lambda way=way: transcribe(way, long.path, LANGUAGE).text  # type: ignore[misc]
        for name, way in ways
    }
    if find_spec("faster_whisper"):
        from benchmarks.serving.fastapi_server import batched, text

        library = batched(model if engine_of_export(model) else str(exported(model, "int8")), threads)
        heard["faster-whisper"] = lambda: text(library, str(long.path), LANGUAGE)
    rows = []
    for name, hear in heard.items():
        begun = time.process_time()
        said = hear()
        core_s = time.process_time() - begun
        counts = score([long.text], [said], "normalised", LANGUAGE).counts
        rows.append(
            {
                "way": name,
                "core_s": round(core_s, 1),
                "audio_per_core_s": round(long.duration_s / core_s, 2),
                "wer": round(counts.rate, 4),
                "substitutions": counts.substitutions,
                "deletions": counts.deletions,
                "insertions": counts.insertions,
            }
        )
        tell(json.dumps(rows[-1]))
    return rows


if __name__ == "__main__":
    main()
