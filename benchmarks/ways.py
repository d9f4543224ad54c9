"""Ways of training through `whisperfleet train`, each a run of its own, against what `whisperfleet plan` says of it.

    .venv/bin/python -m benchmarks.ways --data runs/demo-1/data/train.jsonl [--steps 12] [--save FILE] [--at-once 2] \
        [--config configs/demo.yaml] [--random large-v3] [--way "strategy=full parallelism=zero2"] [key=value ...]

Real speech and a real checkpoint; with ``--random`` a size's weights are drawn: memory and seconds are the same. On a
GPU the peak is `torch.cuda.max_memory_allocated` in the run's history, and the plan's is that of a batch at its bounds,
which few are. A way that fails is a row with the last line that it printed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from asr.config import resolve
from asr.models.checkpoint import find_checkpoint
from asr.models.whisper.shapes import SIZES
from asr.parsed import JsonObject
from benchmarks.provenance import provenance, tell
from cluster.gpus import KNOWN, GpuFleet
from train.capacity.memory import GIB, GPU_FRAMEWORK, memory
from train.capacity.options import setup_of
from train.capacity.shapes import shape_of
from train.capacity.speed import step_time
from train.config import TrainConfig

WARM = 3  # steps that are not timed: kernels are chosen, and memory is asked for
ON_GPU = ("workers.gpu=true", "workers.data_tasks_each=4")
CPU_WAYS = ("strategy=lora", "strategy=lora precision=bf16", "strategy=full parallelism=zero2")
GPU_WAYS = (
    "strategy=lora precision=bf16",
    "strategy=lora precision=fp16",
    "strategy=lora precision=bf16 compile=true",
    "strategy=qlora precision=bf16",
    "strategy=dora precision=bf16",
    "strategy=full precision=bf16",
    "strategy=full precision=bf16 parallelism=zero2",
    "strategy=full precision=bf16 parallelism=zero2 offload=cpu",
    "strategy=full precision=bf16 parallelism=zero3",
    "strategy=full precision=bf16 parallelism=zero3 offload=cpu",
)


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options.add_argument("--data", required=True, help="A prepared manifest.")
    options.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    options.add_argument("--random", choices=[name.removeprefix("openai/whisper-") for name in SIZES])
    options.add_argument("--way", action="append", metavar="SETTINGS", help="One way, in place of the usual ones.")
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--at-once", type=int, default=1, help="Runs beside one another: sooner done, but no timing.")
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    gpu = torch.cuda.is_available()
    chosen: Sequence[str] = asked.way or (GPU_WAYS if gpu else CPU_WAYS)
    with TemporaryDirectory() as scratch, ThreadPoolExecutor(asked.at_once) as pool:
        common = [f"data.train={asked.data}", f"optim.max_steps={asked.steps}", "optim.warmup_steps=1"]
        common += [f"run.checkpoint_every_steps={asked.steps}", f"run.folder={scratch}", *(ON_GPU if gpu else ())]
        if asked.random:
            common.append(f"base={random_checkpoint(asked.random, Path(scratch) / asked.random)}")
        found = pool.map(lambda way: run(asked.config, way, [*common, *asked.settings]), chosen)
        rows = list(found)
    result = {
        "benchmark": "ways",
        "config": str(asked.config),
        "settings": asked.settings,
        "random": asked.random,
        "at_once": asked.at_once,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "ways": rows,
        **provenance(("torch", "transformers", "peft", "deepspeed", "ray")),
    }
    _show(rows)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def run(file: Path, way: str, common: Sequence[str]) -> JsonObject:
    """Train as ``way`` says and return the figures, with the plan's beside them."""
    name = "-".join(word.partition("=")[2] for word in way.split())
    settings = [*common, *way.split(), f"run.name={name}"]
    config = resolve(TrainConfig, file, settings).value
    tell(f"{way}: starting")
    started = time.monotonic()
    words = [sys.executable, "-m", "whisperfleet", "train", str(file), *settings]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds = time.monotonic() - started
    row: JsonObject = {"way": way, "exit_code": done.returncode, "wall_s": round(seconds, 1)}
    last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "")
    tell(f"{way}: exit {done.returncode} in {seconds:.0f} s: {last}")
    if done.returncode:
        return row | {"error": last, "output": done.stdout[-6000:]}
    history = Path(config.run.folder) / name / "history.jsonl"
    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    shutil.rmtree(history.parent)  # a checkpoint of a large model takes its room
    return row | measured([one for one in rows if "loss" in one]) | planned(config)


def measured(steps: Sequence[JsonObject]) -> JsonObject:
    """Return what the history of a run says: seconds of a step, losses, the peak of memory."""
    ends = [step["seconds"] for step in steps]
    took = [end - before for before, end in zip(ends[WARM - 1 :], ends[WARM:], strict=False)]
    return {
        "step_s": round(median(took), 4) if took else None,
        "first_loss": round(steps[0]["loss"], 3),
        "last_loss": round(steps[-1]["loss"], 3),
        "wait_share": steps[-1].get("wait_share"),
        "measured_gib": round(max(step["memory_gib"] for step in steps), 3),
    }


def planned(config: TrainConfig) -> JsonObject:
    """Return what `plan` says of the same on this GPU; nothing of a CPU, where a process is more than torch."""
    if not config.workers.gpu:
        return {}
    name = torch.cuda.get_device_name()
    device = next((one for one in KNOWN if one.name.partition("-")[0] in name), KNOWN[0])
    setup = setup_of(config, shape_of(config.base, config.head, config.ctc), GpuFleet(1, device))
    expected = memory(setup)
    return {
        "planned_gib": round((expected.peak - GPU_FRAMEWORK) / GIB, 3),
        "planned_host_gib": round(expected.host / GIB, 3),
        "planned_step_s": round(step_time(setup, device, config.batching.micro_batches_per_step).total_s, 4),
    }


def random_checkpoint(size: str, folder: Path) -> Path:
    """Write a checkpoint with random weights and base's tokenizer: the ids that this lacks are never asked for."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    shape = SIZES[f"openai/whisper-{size}"]
    shutil.copytree(find_checkpoint("builtin:base").folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        network = WhisperForConditionalGeneration._from_config(WhisperConfig(**shape.config), dtype=torch.bfloat16)
    generation = (folder / "generation_config.json").read_bytes()  # which that of no training would overwrite
    network.save_pretrained(folder)
    (folder / "generation_config.json").write_bytes(generation)
    WhisperFeatureExtractor(feature_size=shape.mels).save_pretrained(folder)
    return folder


def _show(rows: Sequence[JsonObject]) -> None:
    table = Table("way", "exit", "step, s", "planned, s", "peak, GiB", "planned, GiB", "host, GiB", "loss")
    names = ("step_s", "planned_step_s", "measured_gib", "planned_gib", "planned_host_gib")
    for row in rows:
        loss = f"{row['first_loss']} to {row['last_loss']}" if "first_loss" in row else row["error"]
        table.add_row(row["way"], str(row["exit_code"]), *(str(row.get(name, "")) for name in names), loss)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
