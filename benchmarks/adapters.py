"""Adapters mixed in one batch on a shared base against one merged into it: the same clips, alternating, in one run.

    .venv/bin/python -m benchmarks.adapters [--base builtin:tiny.en] [--rounds 5] [--save FILE]

16 English prompts of three to five seconds, one thread, processor seconds: a busy machine changes them little. Three
adapters of rank 32 on all layers, untrained: a clip is stopped after as many tokens. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from asr.audio.decode import decode as decode_audio
from asr.data.sources.prompts import fetch, utterances
from asr.io.cache import cache_root
from asr.models.artifact import merge_adapter
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import NO_ADAPTER, num_bytes
from asr.models.processor import Features
from asr.models.whisper.loading import load_checkpoint
from asr.models.whisper.multi_lora import MultiLoraBase
from asr.models.whisper.torch_backend import decode
from asr.parsed import JsonObject
from asr.transcript import DecodingRequest, Transcript
from train.trainer.adapter import adapt
from train.trainer.strategy import LoraSettings

CLIPS = 16
ADAPTERS = 3
MAX_TOKENS = 30
EFFECT = 0.0015  # of an adapter's random weights: what it says is other, but words


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("--base", default="builtin:tiny.en")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    torch.set_num_threads(1)
    checkpoint = find_checkpoint(asked.base)
    with TemporaryDirectory() as folder:
        result = _compare(checkpoint, [_adapter(checkpoint, Path(folder), seed) for seed in range(ADAPTERS)], asked)
    _show(result)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _adapter(checkpoint: Checkpoint, parent: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    network = adapt(load_checkpoint(checkpoint).network, "lora", LoraSettings())
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=EFFECT)
    network.save_pretrained(parent / str(seed))
    return parent / str(seed)


def _compare(checkpoint: Checkpoint, folders: Sequence[Path], asked: argparse.Namespace) -> JsonObject:
    plain = load_checkpoint(checkpoint)
    plain.network.generation_config.max_length = MAX_TOKENS
    merged = merge_adapter(load_checkpoint(checkpoint), folders[0])
    merged.network.generation_config.max_length = MAX_TOKENS
    base = MultiLoraBase(plain)
    names = [base.add(folder) for folder in folders]
    clips = _clips(plain.features)

    def on_base(adapters: Sequence[str]) -> list[Transcript]:
        with base.busy() as model:
            return decode(model, clips, "short", adapters=[adapters[i % len(adapters)] for i in range(len(clips))])

    sides: dict[str, Callable[[], list[Transcript]]] = {
        "merged": lambda: decode(merged, clips, "short"),
        "one_adapter": lambda: on_base(names[:1]),
        "mixed": lambda: on_base(names),
        "mixed_with_base": lambda: on_base([*names, NO_ADAPTER]),
    }
    heard = {side: run() for side, run in sides.items()}  # once for nothing
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(asked.rounds):
        for side, run in sides.items():
            started = time.process_time()
            run()
            seconds[side].append(time.process_time() - started)
    best = {side: min(each) for side, each in seconds.items()}
    same = sum(a.tokens == b.tokens for a, b in zip(heard["merged"], heard["one_adapter"], strict=True))
    return {
        "benchmark": "adapters",
        "base": asked.base,
        "clips": len(clips),
        "adapters": len(names),
        "cpu_s": {side: round(value, 3) for side, value in best.items()},
        "ratio": {side: round(value / best["merged"], 2) for side, value in best.items()},
        "same_tokens_as_merged": same,
        "base_mb": round(num_bytes(plain.network) / 1e6, 1),
        "adapter_mb": round(base.adapter_nbytes(names[0]) / 1e6, 1),
        "torch": torch.__version__,
    }


def _clips(log_mel: Features) -> list[DecodingRequest]:
    good, _ = utterances("en", fetch("en", cache_root()))
    chosen = [clip for clip in good if 8 <= len(clip.text.split()) <= 14]
    waveforms = [decode_audio(str(clip.audio), container="g722") for clip in chosen[:: len(chosen) // CLIPS][:CLIPS]]
    return [DecodingRequest(log_mel(waveform), "en") for waveform in waveforms]


def _show(result: JsonObject) -> None:
    table = Table("", "CPU s", "against merged", title=f"{result['clips']} clips in a batch, {result['base']}")
    for side, seconds in result["cpu_s"].items():
        table.add_row(side.replace("_", " "), f"{seconds:.2f}", f"{result['ratio'][side]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
