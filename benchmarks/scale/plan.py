"""Planning: seconds and memory of an epoch, of a resume in the middle of one, and of giving out a worker's share.

    .venv/bin/python -m benchmarks.scale.plan UTTERANCES KIND WORKERS     (one size in a process of its own)

KIND is ``plain``, ``mixed`` (two sources by weights), ``packed`` (windows of 30 s) or ``speed`` (some clips faster).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import islice

from asr.parsed import JsonObject
from benchmarks.provenance import tell
from benchmarks.scale.corpora import utterances
from benchmarks.scale.figures import Figure, Sizes
from benchmarks.scale.processes import peak_bytes, reset_peak, resident_bytes
from train.augmentation.augment import Augmentation, SpeedPerturbation
from train.corpus.static import StaticCorpus
from train.dataloader.dataset import RankSlice, WorkerShard
from train.sampling.batching import BatchingConfig
from train.sampling.packing import ExampleLimits, Packing
from train.sampling.sampler import Ordering

KINDS = ("plain", "mixed", "packed", "speed")
_STEPS = 30  # given out, of which the first is a warm-up
_LIMITS = ExampleLimits(around=5, most=448, previous=223, window_s=30.0)  # as Whisper's


def plan(sizes: Sizes) -> list[Figure]:
    """Measure each kind at the largest size, and plain planning at all of them."""
    figures = []
    largest = max(sizes.utterances)
    for count, kind in [(count, "plain") for count in sizes.utterances] + [(largest, kind) for kind in KINDS[1:]]:
        tell(f"planning {count:,} utterances, {kind}")
        words = [sys.executable, "-m", "benchmarks.scale.plan", str(count), kind, str(sizes.workers)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"planning {count} utterances failed:\n{done.stderr[-2000:]}")
        measured = json.loads(done.stdout)
        at = f"{count:,} utterances, {kind}"
        figures += [Figure(what, at, value, unit) for what, (value, unit) in measured.items()]
    return figures


def measured(count: int, kind: str, workers: int) -> dict[str, tuple[float, str]]:
    """Return the figures of one size by name, each with its unit."""
    corpus = _corpus(count, kind, workers)
    before = resident_bytes()
    reset_peak()
    begun, core = time.perf_counter(), time.process_time()
    epoch = corpus.epoch(0)
    epoch_s, epoch_core_s = time.perf_counter() - begun, time.process_time() - core
    planning, kept, steps = peak_bytes() - before, resident_bytes() - before, len(epoch)
    del epoch
    core = time.process_time()
    next(corpus.steps(steps // 2))
    resume_s = time.process_time() - core
    shard = WorkerShard(corpus, range(_STEPS), RankSlice(workers // 2, workers))
    given = shard.specs()
    next(given)
    core = time.process_time()
    specs = list(islice(given, max(1, min(steps, _STEPS) - 1)))
    step_s = (time.process_time() - core) / len(specs)
    rows = sum(len(example.utterances) for spec in specs for example in spec.examples)
    return {
        "columns in the object store": (corpus.utterances.table.nbytes / count, "bytes per utterance"),
        "an epoch planned": (epoch_s, "s"),
        "an epoch planned, core time": (epoch_core_s, "s"),
        "memory of planning, at its peak": (planning / 2**20, "MiB per worker"),
        "memory of planning, for each utterance": (planning / count, "bytes"),
        "memory of the plan, kept": (kept / 2**20, "MiB per worker"),
        "the first step after a resume in mid-epoch, core time": (resume_s, "s"),
        f"a step's share of one of {workers:,} workers, core time": (1000 * step_s, "ms"),
        "utterances given out": (rows / len(specs) / step_s, "1/core s"),
        "steps in the epoch": (steps, f"of {workers:,} micro-batches"),
    }


def _corpus(count: int, kind: str, workers: int) -> StaticCorpus:
    packing = Packing(window_s=30.0, previous_text_share=0.5) if kind == "packed" else Packing()
    speed = SpeedPerturbation(probability=0.5, factors=(0.9, 1.1)) if kind == "speed" else SpeedPerturbation()
    ordering = Ordering(BatchingConfig(micro_batches_per_step=workers), packing, Augmentation(speed=speed), 0, _LIMITS)
    sizes = [count * 3 // 4, count - count * 3 // 4] if kind == "mixed" else [count]
    drawn = [count // 2, count - count // 2] if kind == "mixed" else sizes
    return StaticCorpus(utterances(count), sizes, drawn, ordering)


def main() -> None:
    """Print the figures of one size as JSON."""
    count, kind, workers = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    found: JsonObject = measured(count, kind, workers)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
