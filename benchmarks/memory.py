"""Peak memory of real training steps against what `whisperfleet plan` predicts for them, strategy by strategy.

    .venv/bin/python -m benchmarks.memory [--only lora] [--save benchmarks/results/memory.json]

Whisper with random weights (no download), our adapters, loss and batches, torch's AdamW. Each case runs in a process of
its own: on the CPU the peak of its resident memory from before the network is built, on a GPU
`torch.cuda.max_memory_allocated`, beside what its allocator reserved for that and what the process holds outside of it.
Where there is a GPU, the cases are those that take one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from rich.console import Console
from rich.table import Table

from asr.models.capacity import Adapters, BatchShape
from asr.models.whisper.shapes import SIZES, NetworkShape
from asr.parsed import JsonObject
from train.capacity.memory import CPU_FRAMEWORK, GPU_FRAMEWORK, MIB, memory
from train.capacity.setup import Setup, StrategyName
from train.capacity.speed import flops

if TYPE_CHECKING:
    from asr.models.whisper.network import AnyContextWhisper
    from train.trainer.strategy import LoraSettings

STEPS = {"cpu": 2, "cuda": 5}  # the first has no optimiser states yet; the last is timed
ADAPTERS = Adapters(rank=32, dropout=0.05, target_modules=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))
NOTHING = NetworkShape(mels=80, width=64, encoder_layers=1, decoder_layers=1, heads=1, hidden=64, vocabulary=256)
# glibc gives large blocks back to the system at once, so that resident memory is what is in use.
QUIET = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Case:
    """A case in a process of its own: a strategy on a size, for a batch of so many clips."""

    strategy: StrategyName
    base: str = "base"
    checkpointing: bool = False
    accumulates: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    clips: int = 4
    seconds: float = 7.5
    tokens: int = 48

    @property
    def name(self) -> str:
        """In the table."""
        marks = {"checkpointing": self.checkpointing, "accumulation": self.accumulates}
        return " + ".join([self.strategy, *(mark for mark, on in marks.items() if on)])

    @property
    def shape(self) -> NetworkShape:
        """The size."""
        return NOTHING if self.base == "nothing" else SIZES[f"openai/whisper-{self.base}"]

    def setup(self, gpu: bool) -> Setup:
        """Return the same as the estimate takes it."""
        return Setup(
            shape=self.shape,
            batch=BatchShape(self.clips, round(self.seconds * 50), self.tokens),
            adapters=ADAPTERS,
            strategy=self.strategy,
            precision=self.precision,
            checkpointing=self.checkpointing,
            accumulates=self.accumulates,
            gpu=gpu,
        )


CPU_CASES = (
    Case("full", "nothing", clips=1, seconds=1.0, tokens=4),
    Case("full"),
    Case("full", checkpointing=True),
    Case("full", accumulates=True),
    Case("frozen_encoder"),
    Case("frozen_encoder", checkpointing=True),
    Case("lora"),
    Case("lora", checkpointing=True),
    Case("lora", precision="bf16"),
    Case("dora"),
    Case("dora", checkpointing=True),
    Case("full", "tiny", clips=2, seconds=30.0, tokens=200),
    Case("lora", "tiny", clips=2, seconds=30.0, tokens=200),
    Case("full", "small", clips=2),
    Case("lora", "small", clips=2),
    Case("lora", "small", clips=2, checkpointing=True),
)
# The batch of configs/large-v3-lora-24gb.yaml at its bounds, then others.
_LARGE: JsonObject = {"base": "large-v3", "precision": "bf16", "clips": 16, "seconds": 7.5, "tokens": 128}
_WINDOWS: JsonObject = {"precision": "bf16", "clips": 8, "seconds": 30.0, "tokens": 200}
GPU_CASES = (
    Case("full", "nothing", clips=1, seconds=1.0, tokens=4),
    Case("lora", **_LARGE),
    Case("lora", checkpointing=True, **_LARGE),
    Case("lora", checkpointing=True, accumulates=True, **_LARGE),
    Case("dora", checkpointing=True, **_LARGE),
    Case("qlora", checkpointing=True, **_LARGE),
    Case("qlora", **_LARGE),
    Case("frozen_encoder", **_LARGE),
    Case("full", **_LARGE),
    Case("full", checkpointing=True, **_LARGE),
    Case("lora", "large-v3", checkpointing=True, **_WINDOWS),
    Case("lora", "large-v3-turbo", **_WINDOWS),
    Case("lora", "medium", **_WINDOWS),
    Case("full", "small", **_WINDOWS),
    Case("full", "small", clips=8, seconds=30.0, tokens=200),
)


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", help="Cases whose name holds this word.")
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--save", type=Path)
    options.add_argument("--case", action="append", default=[], help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.case:
        _run_each([Case(**json.loads(case)) for case in asked.case])
        return
    cases = [
        case
        for case in (GPU_CASES if torch.cuda.is_available() else CPU_CASES)
        if not asked.only or asked.only in f"{case.base} {case.name}"
    ]
    rows = []
    for case in cases:
        rows.append(measure(case, asked.threads))
        result = {"benchmark": "memory", "threads": asked.threads, "cases": rows}
        if asked.save:  # after each: all of them take a while
            asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _show(rows)
    print(json.dumps(result))


def measure(case: Case, threads: int) -> JsonObject:
    """Run one case in a process of its own and put the prediction beside it."""
    return measure_each([case], threads)[0]


def measure_each(cases: Sequence[Case], threads: int) -> list[JsonObject]:
    """Do so for each case. On a CPU their processes are forks of one that has imported everything already."""
    environment = os.environ | QUIET | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    words = [word for case in cases for word in ("--case", json.dumps(asdict(case)))]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", *words],
        cwd=Path(__file__).resolve().parent.parent,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()[-len(cases) :]
    return [_compared(case, json.loads(line)) for case, line in zip(cases, lines, strict=True)]


def _run_each(cases: Sequence[Case]) -> None:
    """Run one case in this process, or several one after the other in forks of it, and print what each has found."""
    if len(cases) == 1:
        print(json.dumps(run(cases[0])))
        return
    import train.trainer.adapter
    import train.trainer.trainer  # noqa: F401

    for case in cases:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            print(json.dumps(run(case)), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"{case.name} failed")


def _compared(case: Case, found: JsonObject) -> JsonObject:
    gpu = found["device"] != "cpu"
    setup = case.setup(gpu)
    estimate = memory(setup)
    # torch.cuda.max_memory_allocated sees neither CUDA's context nor the libraries' workspaces.
    predicted = estimate.peak - (GPU_FRAMEWORK if gpu else 0)
    return asdict(case) | {
        "case": case.name,
        "device": found["device"],
        "predicted_mib": round(predicted / MIB),
        "measured_mib": round(found["peak"] / MIB),
        "error": round(predicted / found["peak"] - 1, 3),
        "moment": estimate.moment,
        "left_over_mib": round((found["peak"] - predicted + (0 if gpu else CPU_FRAMEWORK)) / MIB),
        "step_s": round(found["step_s"], 3),
        **{f"{name}_mib": round(found[name] / MIB) for name in ("reserved", "outside") if name in found},
        "utilisation": round(flops(setup).total / found["step_s"] / found["flops_per_s"], 3),
    }


def run(case: Case) -> JsonObject:
    """Train a few steps in this process and return the peak in bytes, the last step's seconds, the device's FLOP/s."""
    from asr.models.whisper.loss import token_loss
    from train.trainer.adapter import adapt

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = _batch(case)
    speed = _matmul_flops(device, case.precision)
    network = _network(case, device)
    resident = _resident("VmRSS")
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of the imports
    network = adapt(network(), case.strategy, _settings()).train()
    if case.checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    labels = batch.pop("labels")
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=1e-5, fused=True)  # as transformers' trainer makes it
    seconds = 0.0
    for _ in range(STEPS[device]):
        started = time.perf_counter()
        for _ in range(1 + case.accumulates):
            casts = torch.autocast(device, torch.bfloat16) if case.precision == "bf16" else contextlib.nullcontext()
            with casts:
                loss = token_loss(network(**batch), labels)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - started) / (1 + case.accumulates)
    found = {"device": device, "peak": _resident("VmHWM") - resident, "step_s": seconds, "flops_per_s": speed}
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()  # of the device: nobody else may be on it
        reserved, outside = torch.cuda.max_memory_reserved(), total - free - torch.cuda.memory_reserved()
        found |= {"device": torch.cuda.get_device_name(), "peak": torch.cuda.max_memory_allocated()}
        found |= {"reserved": reserved, "outside": outside}
    return found


def _network(case: Case, device: str) -> Callable[[], AnyContextWhisper]:
    """Return a function that builds the network: built later, so that its weights are counted."""
    from transformers import WhisperConfig

    from asr.models.family import WHISPER, family_named
    from asr.models.whisper.network import AnyContextWhisper
    from train.trainer.adapter import base_dtype, four_bit

    dtype = base_dtype(case.strategy, case.precision)

    def build() -> AnyContextWhisper:
        with torch.device(device):
            config = WhisperConfig(**case.shape.config)
            return cast(AnyContextWhisper, AnyContextWhisper._from_config(config, dtype=dtype))

    if case.strategy != "qlora":
        return build
    folder = tempfile.TemporaryDirectory()  # bitsandbytes quantises what it reads
    build().save_pretrained(folder.name)
    kept = family_named(WHISPER).unquantized
    return lambda: AnyContextWhisper.from_pretrained(
        folder.name, dtype=dtype, quantization_config=four_bit(dtype, kept), device_map={"": device}
    )


def _batch(case: Case) -> dict[str, torch.Tensor]:
    import numpy as np

    from asr.models.whisper.collate import collate

    random = np.random.default_rng(0)
    shape, frames = case.shape, int(case.seconds * 100)
    clips = random.standard_normal((case.clips, shape.mels, frames), dtype=np.float32).astype(np.float16)
    labels_BL = random.integers(1, shape.vocabulary, (case.clips, case.tokens + 1))
    return collate(list(clips), labels_BL, np.zeros(case.clips, dtype=np.int64), case.seconds, pad_token_id=0)


def _settings() -> LoraSettings:
    from train.trainer.strategy import LoraSettings

    return LoraSettings(rank=ADAPTERS.rank, dropout=ADAPTERS.dropout, target_modules=ADAPTERS.target_modules)


def _matmul_flops(device: str, precision: str) -> float:
    """Return what the device reaches in a plain matrix product."""
    side = 8192 if device == "cuda" else 1024
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - started)
    return float(2 * side**3 / best)


def _resident(field: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _show(rows: Sequence[JsonObject]) -> None:
    table = Table("size", "strategy", "precision", "batch", "predicted, MiB", "measured, MiB", "error", "worst moment")
    for row in rows:
        batch = f"{row['clips']} x {row['seconds']:g} s, {row['tokens']} tokens"
        figures = f"{row['predicted_mib']}", f"{row['measured_mib']}", f"{100 * row['error']:+.1f} %"
        table.add_row(row["base"], row["case"], row["precision"], batch, *figures, row["moment"])
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
