"""Speed of the engines alone on this machine's device: audio seconds per second by batch size, with a WER check.

    .venv/bin/python -m benchmarks.decoding runs/demo-1/artifact [--engines torch,ctranslate2] [--batches 1,8,32,128] \
        [--clips 256] [--language it] [--save FILE]

Clips of the test split, then of the others, in their order. Each engine is given all of them at once, and decodes those
of like contexts together, at most as many as a batch may hold; one batch before that does not count. With a GPU:
float16, and the peak of torch's own memory. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast, get_args

import torch
from rich.console import Console
from rich.table import Table

from asr.audio.decode import SAMPLE_RATE
from asr.audio.decode import decode as decode_audio
from asr.audio.features import Context
from asr.data.manifest import read_manifest
from asr.data.sources import SourceConfig
from asr.inference.engine import FastEngine, TorchEngine, load_engine
from asr.models.family import best_device
from asr.models.whisper.batch_decode import transcribe_batch
from asr.models.whisper.ct2_backend import CTranslateModel
from asr.models.whisper.torch_backend import decode
from asr.parsed import JsonObject
from asr.scoring.error_rates import score
from asr.transcript import DecodingRequest, Transcript
from asr.utterance import Utterance
from benchmarks.provenance import provenance, tell
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("model")
    options.add_argument("--engines", default="torch,ctranslate2")
    options.add_argument("--batches", default="1,8,32,128")
    options.add_argument("--clips", type=int, default=256)
    options.add_argument("--language", default="it")
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    device = best_device()
    with TemporaryDirectory() as folder:
        prepared = prepare(rows_of(SourceConfig(source=f"prompts:{asked.language}")), Path(folder), PrepareConfig())
        splits = [read_manifest(prepared.manifests[name]) for name in ("test", "train", "validation")]
        spoken = list(chain.from_iterable(splits))[: asked.clips]
        waves = [decode_audio(str(clip.audio)) for clip in spoken]
    rows = []
    for name in asked.engines.split(","):
        kind = cast(Literal["torch", "ctranslate2"], name)
        engine = load_engine(asked.model, "model", kind, device)
        assert isinstance(engine, (TorchEngine, FastEngine))
        clips = [DecodingRequest(engine.info.features(wave), asked.language) for wave in waves]
        for context, size in product(get_args(Context), map(int, asked.batches.split(","))):
            rows.append({"engine": name} | measure(engine, clips, spoken, context, size))
            tell(json.dumps(rows[-1]))
    result = {
        "benchmark": "decoding",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "clips": len(waves),
        "audio_s": round(sum(map(len, waves)) / SAMPLE_RATE, 1),
        "model": asked.model,
        "runs": rows,
        **provenance(("torch", "transformers", "ctranslate2")),
    }
    _show(rows)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def measure(
    engine: TorchEngine | FastEngine,
    clips: Sequence[DecodingRequest],
    spoken: Sequence[Utterance],
    context: Context,
    size: int,
) -> JsonObject:
    """Decode all clips, at most ``size`` at a time, and return the figures."""

    def say(some: Sequence[DecodingRequest]) -> list[Transcript]:
        if isinstance(engine, TorchEngine):
            return decode(engine.model, some, context, size, fallback=True)
        return transcribe_batch(cast(CTranslateModel, engine.model), some, context, size, fallback=True)

    say(clips[:size])
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    said = [one.text for one in say(clips)]
    seconds = time.perf_counter() - started
    found: JsonObject = {
        "context": context,
        "batch": size,
        "seconds": round(seconds, 3),
        "audio_per_s": round(sum(clip.features.shape[1] for clip in clips) / 100 / seconds, 1),
        "wer": round(score([one.text for one in spoken], said).rate, 4),
    }
    if torch.cuda.is_available():
        found["torch_peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return found


def _show(rows: Sequence[JsonObject]) -> None:
    table = Table("engine", "context", "clips a batch", "audio s/s", "WER", "torch's peak, GiB")
    for row in rows:
        cells = row["engine"], row["context"], str(row["batch"]), f"{row['audio_per_s']:g}", f"{row['wer']:.1%}"
        table.add_row(*cells, str(row.get("torch_peak_gib", "")))
    Console().print(table)


if __name__ == "__main__":
    main()
