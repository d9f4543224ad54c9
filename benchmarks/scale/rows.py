"""Micro-batch specs through Ray Data, from specs to tensors: with nothing done to them, and decoded.

Pipelines are as training has them, one for each worker, here in actors that only count what arrives. Beside rows a
second it tells whose core seconds they are: the trainer's own process, the tasks, and Ray's. All pipelines of a cluster
share two actors of Ray's (statistics, and who may use which cores): their work for one bounds how many there can be.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import ray

from asr.models.head import InitialModel
from asr.models.processor import IGNORED
from asr.utterance import Utterance
from benchmarks.provenance import tell
from benchmarks.scale.corpora import language, speech
from benchmarks.scale.figures import Figure, Sizes
from benchmarks.scale.processes import using
from cluster.session import ray_session
from train.dataloader import ray_pipeline as module
from train.dataloader.preprocess import MicroBatchTensors
from train.dataloader.ray_pipeline import stream
from train.dataloader.task import prepare_bundle
from train.examples import MicroBatchSpec, PackedExample, PreprocessConfig

_CLIPS = 6  # of a micro-batch
_LABEL_TOKENS = 30
_WARM = 16
_KINDS = {
    "_StatsActor": "statistics",
    "_AutoscalingCoordinator": "coordinator",
    "gcs_server": "gcs",
    "raylet/raylet": "raylet",
    "ray::Consumer": "trainer",
    "flat_map": "tasks",
    "FlatMap": "tasks",
    "ray::_map_task": "tasks",
    "ray::": "tasks",
}


def rows(sizes: Sizes) -> list[Figure]:
    """Return the figures of empty pipelines, one and several at once, and of one that decodes."""
    figures = []
    with TemporaryDirectory() as folder, ray_session():
        clips, audio_s = speech(Path(folder), sizes.checkpoint, sizes.prompts)
        for pipelines in sizes.pipelines:
            each = max(8, sizes.rows // pipelines)
            tell(f"{pipelines} pipelines of {each} micro-batches without work")
            figures += _figures(_run(clips, pipelines, each, sizes, idle=True), pipelines, "no work", 0.0)
        tell("one pipeline that decodes")
        each = max(8, sizes.rows // 8)
        figures += _figures(_run(clips, 1, each, sizes, idle=False), 1, "decoded", audio_s * _CLIPS)
    return figures


def specs(clips: Sequence[Utterance], count: int) -> Iterator[MicroBatchSpec]:
    """Yield so many micro-batches of the same clips, over and over."""
    for number in range(count):
        chosen = [clips[(number * _CLIPS + place) % len(clips)] for place in range(_CLIPS)]
        context_s = max(clip.duration_s or 0.0 for clip in chosen) + 0.5
        yield MicroBatchSpec(tuple(PackedExample((clip,)) for clip in chosen), context_s, _CLIPS * context_s)


def untouched(row: dict[str, bytes], preprocess: PreprocessConfig) -> Iterator[dict[str, bytes]]:
    """Yield for each order what ``prepare`` makes, as many bytes of it, without any work."""
    for spec in pickle.loads(row["orders"]):
        frames = round(spec.own_s * 100)
        yield {
            "row": pickle.dumps(
                MicroBatchTensors(
                    np.zeros((80, frames), np.float16),
                    np.full(len(spec.examples), frames // max(1, len(spec.examples))),
                    np.full((len(spec.examples), _LABEL_TOKENS), IGNORED),
                    np.zeros(len(spec.examples), np.int64),
                    spec.context_s,
                    spec.own_s,
                    spec.own_s,
                    spec.epoch,
                    tuple(utterance.id for example in spec.examples for utterance in example.utterances),
                    (),
                )
            )
        }


class Consumer:
    """Stands for a training worker: takes rows as fast as they come."""

    def __init__(self, clips: Sequence[Utterance], preprocess: PreprocessConfig, idle: bool) -> None:
        self._clips, self._preprocess, self._idle = clips, preprocess, idle

    def take(self, count: int) -> tuple[float, int]:
        """Return the seconds from the first row to the last, and the bytes of features in them."""
        with patch.object(module, "prepare_bundle", untouched if self._idle else prepare_bundle):
            found = stream(specs(self._clips, count), self._preprocess, tasks=2)
            size = next(found).features_MT.nbytes
            begun = time.perf_counter()
            size += sum(row.features_MT.nbytes for row in found)
            return time.perf_counter() - begun, size


def _run(clips: Sequence[Utterance], pipelines: int, each: int, sizes: Sizes, idle: bool) -> dict[str, float]:
    preprocess = PreprocessConfig(InitialModel(sizes.checkpoint), language(sizes.checkpoint), "transcribe")
    consumers = [ray.remote(num_cpus=0)(Consumer).remote(clips, preprocess, idle) for _ in range(pipelines)]
    ray.get([consumer.take.remote(_WARM) for consumer in consumers])  # torch is imported, tasks have processes
    with using(_KINDS) as used:
        begun = time.perf_counter()
        taken = ray.get([consumer.take.remote(each) for consumer in consumers])
        wall_s = time.perf_counter() - begun
    for consumer in consumers:
        ray.kill(consumer)
    made = pipelines * each
    return {
        "made": made,
        "wall_s": wall_s,
        "per_s": sum((each - 1) / seconds for seconds, _ in taken),
        "bytes": sum(size for _, size in taken) / made,
        **used.core_s,
    }


def _figures(run: dict[str, float], pipelines: int, kind: str, audio_s: float) -> list[Figure]:
    at = f"{pipelines} pipelines, {kind}" if pipelines > 1 else f"1 pipeline, {kind}"
    made = run["made"]
    figures = [
        Figure("micro-batches that arrive", at, run["per_s"], "1/s"),
        Figure("core time of the trainer's process", at, 1000 * run.get("trainer", 0.0) / made, "ms per micro-batch"),
        Figure("core time of tasks", at, 1000 * run.get("tasks", 0.0) / made, "ms per micro-batch"),
        Figure(
            "core time of raylet and GCS", at, 1000 * (run.get("raylet", 0.0) + run.get("gcs", 0.0)) / made, "ms each"
        ),
    ]
    shared = run.get("statistics", 0.0) + run.get("coordinator", 0.0)
    figures.append(
        Figure("core share of Ray's shared actors", at, 100 * shared / run["wall_s"] / pipelines, "% per pipeline")
    )
    if audio_s:
        core_s = run.get("tasks", 0.0) + run.get("trainer", 0.0)
        figures += [
            Figure("speech prepared", at, run["per_s"] * audio_s, "audio s/s"),
            Figure("speech prepared by a core", at, made * audio_s / core_s if core_s else 0.0, "audio s per core s"),
            Figure("features on the way", at, run["bytes"] / audio_s, "bytes per audio s"),
        ]
    return figures
