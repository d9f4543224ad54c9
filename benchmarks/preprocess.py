"""Decoding and log-mel through Ray Data against the same in a bare loop: the same clips, alternating, in one run.

    .venv/bin/python -m benchmarks.preprocess [--epochs 40] [--rounds 3] [--save benchmarks/results/preprocess.json]

Italian prompts as `data prepare` leaves them (FLAC). On either side each core has a process of one thread; Ray Data
also makes the labels and hands finished micro-batches in order to one consumer, whose work is on its account.
Worker processes are warm. The last line is JSON; quote the ratio, clips per second depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
from rich.console import Console
from rich.table import Table

from asr.audio.decode import decode
from asr.data.sources import SourceConfig
from asr.models.head import InitialModel
from asr.parsed import JsonObject
from asr.utterance import Utterance
from cluster.session import ray_session
from train.augmentation.augment import Augmentation
from train.corpus.corpus import Corpus, load
from train.corpus.validation import CorpusValidator
from train.data.config import DataConfig
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of
from train.dataloader.ray_pipeline import stream
from train.examples import MicroBatchSpec, PreprocessConfig
from train.sampling.batching import BatchingConfig
from train.sampling.packing import Packing
from train.sampling.sampler import Ordering

PREPROCESS = PreprocessConfig(InitialModel("builtin:base"), "it", "transcribe")
PROMPTS = "prompts:it"


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("--epochs", type=int, default=40, help="passes over the clips in a round")
    options.add_argument("--rounds", type=int, default=3, help="of either side, taking turns")
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    result = {"benchmark": "preprocess", **measure(asked.epochs, asked.rounds), "ray": ray.__version__}
    _show(result)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def measure(epochs: int = 40, rounds: int = 3) -> JsonObject:
    """Return clips per second and core of either side, and ``preprocess_efficiency``: the second over the first."""
    cores = len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started from here on
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as the bare loop's; 15 would yield to all else that runs
    with TemporaryDirectory() as folder, ray_session():
        manifest = prepare(rows_of(SourceConfig(source=PROMPTS)), Path(folder), PrepareConfig()).manifests["train"]
        corpus = corpus_of(manifest)
        epoch = [spec for spec in epochs_of(corpus) if spec.epoch == 0]
        clips = [utterance for spec in epoch for example in spec.examples for utterance in example.utterances]
        with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
            bare_s = ray_s = 0.0
            met = len(clips) * epochs
            _bare(pool, clips * 2, cores)
            _through_ray(corpus, 8, cores)
            for _ in range(rounds):
                bare_s += _bare(pool, clips * epochs, cores)
                ray_s += _through_ray(corpus, epochs, cores)
    bare, streamed = (rounds * met / seconds / cores for seconds in (bare_s, ray_s))
    return {
        "preprocess_efficiency": round(streamed / bare, 3),
        "preprocess_bare_clips_per_s_core": round(bare, 1),
        "preprocess_ray_clips_per_s_core": round(streamed, 1),
        "preprocess_clips": rounds * met,
        "cores": cores,
    }


def corpus_of(manifest: Path) -> Corpus:
    """Return what a run would read of a manifest."""
    validator = CorpusValidator(PREPROCESS)
    ordering = Ordering(BatchingConfig(), Packing(), Augmentation(), 0, validator.limits)
    return load(DataConfig(train=SourceConfig(source=str(manifest))), validator, ordering)


def epochs_of(corpus: Corpus, epochs: int = 1) -> Iterator[MicroBatchSpec]:
    """Yield the micro-batches of so many epochs."""
    for step in corpus.steps(0):
        if step[0].epoch == epochs:
            return
        yield from corpus.micro_batch_specs(step)


def _through_ray(corpus: Corpus, epochs: int, cores: int) -> float:
    started = time.perf_counter()
    # One task more than cores: Ray Data looks only ten times a second whether one is done.
    for row in stream(epochs_of(corpus, epochs), PREPROCESS, tasks=cores + 1):
        assert not row.faults
    return time.perf_counter() - started


def _bare(pool: ProcessPoolExecutor, clips: Sequence[Utterance], cores: int) -> float:
    started = time.perf_counter()
    list(pool.map(_loop, [clips[core::cores] for core in range(cores)]))
    return time.perf_counter() - started


def _loop(clips: Sequence[Utterance]) -> None:
    features = PREPROCESS.processor.features
    for clip in clips:
        features(decode(clip.audio))


def _show(result: JsonObject) -> None:
    table = Table("", "clips/s and core", title=f"{result['preprocess_clips']} clips on {result['cores']} cores")
    table.add_row("bare loop", f"{result['preprocess_bare_clips_per_s_core']:.1f}")
    table.add_row("Ray Data, with labels, in order", f"{result['preprocess_ray_clips_per_s_core']:.1f}")
    table.add_row("ratio", f"{result['preprocess_efficiency']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
