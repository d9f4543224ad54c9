"""LoRA steps and encoding at the clips' own length against 30 s of padding: the same clips, alternating, in one run.

    .venv/bin/python -m benchmarks.audio_context [--batches 6] [--save benchmarks/results/audio_context.json]

Whisper base, Italian prompts, all cores. The last line is JSON; quote the ratios, seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from asr.audio.decode import decode as decode_audio
from asr.audio.features import WINDOW_S, Context, context_frames, pad
from asr.config import resolve
from asr.data.sources import SourceConfig
from asr.models.checkpoint import find_checkpoint
from asr.models.whisper.loading import load_checkpoint
from asr.models.whisper.loss import token_loss
from asr.parsed import JsonObject
from asr.utterance import Utterance
from train.config import TrainConfig
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of
from train.dataloader.collate import collate
from train.dataloader.preprocess import prepare as prepare_row
from train.examples import MicroBatchSpec, PreprocessConfig
from train.run.fit import training_data
from train.trainer.adapter import adapt
from train.trainer.strategy import LoraSettings

BASE = "builtin:base"
LANGUAGE = "it"


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("--batches", type=int, default=6)
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with TemporaryDirectory() as folder:
        prepared = prepare(rows_of(SourceConfig(source=f"prompts:{LANGUAGE}")), Path(folder), PrepareConfig())
        settings = [f"base={BASE}", f"language={LANGUAGE}", f"data.train={prepared.manifests['train']}"]
        config = resolve(TrainConfig, None, [*settings, "batching.full_window_share=0"]).value
        data = training_data(config)
        corpus = data.corpus
        specs = [spec for step in islice(corpus.steps(0), asked.batches) for spec in corpus.micro_batch_specs(step)]
        seconds = _steps(specs, config.preprocess(data.initial)) | _encoding(specs)
    chosen = [clip.duration_s or 0.0 for spec in specs for clip in _clips(spec)]
    result = _result(seconds, chosen)
    _show(result)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _clips(spec: MicroBatchSpec) -> list[Utterance]:
    return [clip for example in spec.examples for clip in example.utterances]


def _steps(specs: Sequence[MicroBatchSpec], preprocess: PreprocessConfig) -> dict[str, float]:
    """Return the seconds of forward, backward and optimiser over all rows, in either context."""
    model = load_checkpoint(find_checkpoint(BASE))
    network = adapt(model.network, "lora", LoraSettings()).train()
    optimiser = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad], lr=1e-4)
    seconds: dict[str, float] = defaultdict(float)
    for spec in specs:
        for context, window_s in (("short", spec.context_s), ("full", WINDOW_S)):
            tensors = prepare_row(replace(spec, context_s=window_s), preprocess)
            batch = collate(tensors, model.processor)
            labels = batch.pop("labels")
            started = time.perf_counter()
            token_loss(network(**batch), labels).backward()
            optimiser.step()
            optimiser.zero_grad()
            seconds[f"step_{context}"] += time.perf_counter() - started
    return dict(seconds)


def _encoding(specs: Sequence[MicroBatchSpec]) -> dict[str, float]:
    """Return the seconds of encoding all rows' clips, in either context.

    Not of decoding: a checkpoint that was not trained for the short context loops there. `whisperfleet demo` prints the
    seconds of whole evaluations with one that was.
    """
    model = load_checkpoint(find_checkpoint(BASE))
    seconds: dict[str, float] = defaultdict(float)
    for spec in specs:
        features = [model.features(decode_audio(clip.audio)) for clip in _clips(spec)]
        contexts: tuple[Context, ...] = ("short", "full")
        for context in contexts:
            frames = max(context_frames(clip.shape[1], context) for clip in features)
            batch = torch.from_numpy(pad(features, frames))
            started = time.perf_counter()
            with torch.inference_mode():
                model.network.model.encoder(batch)
            seconds[f"encode_{context}"] += time.perf_counter() - started
    return dict(seconds)


def _result(seconds: dict[str, float], durations: Sequence[float]) -> JsonObject:
    ratios = {f"{kind}_ratio": seconds[f"{kind}_full"] / seconds[f"{kind}_short"] for kind in ("step", "encode")}
    figures = {name: round(value, 2) for name, value in (seconds | ratios).items()}
    return {
        "benchmark": "audio_context",
        "clips": len(durations),
        "audio_s": round(sum(durations), 1),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        **figures,
    }


def _show(result: JsonObject) -> None:
    table = Table(
        "", "own length, s", "30 s, s", "ratio", title=f"{result['clips']} clips, {result['audio_s']} s of speech"
    )
    for kind, label in (("step", "LoRA step"), ("encode", "encoder, no gradient")):
        cells = [result[f"{kind}_{column}"] for column in ("short", "full", "ratio")]
        table.add_row(label, *(f"{cell:.2f}" for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
