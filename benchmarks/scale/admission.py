"""Cost before the first step: read a manifest, check rows, count tokens, keep them as columns, make a digest.

All of it is done once, by the driver, in one process. Then what the object store does with the columns.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from asr.data.sources import SourceConfig, rows
from asr.io.cache import cache_root
from asr.models.head import InitialModel
from benchmarks.provenance import tell
from benchmarks.scale.corpora import language, utterances
from benchmarks.scale.figures import Figure, Sizes, median_s
from cluster.session import ray_session
from train.augmentation.augment import Augmentation
from train.corpus.corpus import load
from train.corpus.static import StaticCorpus
from train.corpus.validation import CorpusValidator
from train.data.config import DataConfig
from train.examples import PreprocessConfig
from train.sampling.batching import BatchingConfig
from train.sampling.packing import ExampleLimits, Packing
from train.sampling.sampler import Ordering

_BATCH = 48  # utterances that a worker takes from the columns for a step
_TIMES = 50


def admission(sizes: Sizes) -> list[Figure]:
    """Return the figures of all stages."""
    figures = []
    for count in sizes.admitted:
        tell(f"admitting {count:,} utterances")
        with TemporaryDirectory() as folder:
            manifest = Path(folder, "train.jsonl")
            _write(manifest, count)
            figures += _admitted(manifest, count, sizes)
    return figures + _stored(sizes)


def _write(manifest: Path, count: int) -> None:
    with manifest.open("w", encoding="utf-8") as file:
        for row in utterances(count).table.to_pylist():
            audio = row["audio"].decode()
            line = {"id": row["id"], "audio_filepath": audio, "text": row["text"], "duration": row["duration_s"]}
            file.write(json.dumps(line) + "\n")


T = TypeVar("T")


def _admitted(manifest: Path, count: int, sizes: Sizes) -> list[Figure]:
    rules = CorpusValidator(PreprocessConfig(InitialModel(sizes.checkpoint), language(sizes.checkpoint), "transcribe"))
    config = SourceConfig(source=str(manifest), audio_roots=["s3://speech/corpus"])
    ordering = Ordering(BatchingConfig(), Packing(), Augmentation(), 0, rules.limits)  # and the tokenizer is loaded
    stages = []

    def stage(work: Callable[[], T]) -> T:
        begun = time.process_time()
        found = work()
        stages.append(time.process_time() - begun)
        return found

    stage(lambda: deque(rows(config, cache_root()), maxlen=0))
    stage(lambda: deque(rules.validate(rows(config, cache_root()), []), maxlen=0))
    corpus = stage(lambda: load(DataConfig(train=config), rules, ordering))
    stage(lambda: corpus.fingerprint)
    read_s, admitted_s, loaded_s, digest_s = stages
    at = f"{count:,} utterances"
    return [
        Figure("manifest rows read", at, 1e6 * read_s / count, "µs each"),
        Figure("checked, tokens counted", at, 1e6 * (admitted_s - read_s) / count, "µs each"),
        Figure("kept as columns, repeated ids sought", at, 1e6 * (loaded_s - admitted_s) / count, "µs each"),
        Figure("digest of the data", at, 1e6 * digest_s / count, "µs each"),
        Figure("all of it, for ten million", at, 10 * 1e6 * (loaded_s + digest_s) / count / 60, "min"),
    ]


def _stored(sizes: Sizes) -> list[Figure]:
    """Return what the object store makes of the columns, up to a million rows."""
    count = max([size for size in sizes.utterances if size <= 1_000_000] or [min(sizes.utterances)])
    corpus = StaticCorpus(
        utterances(count),
        [count],
        [count],
        Ordering(BatchingConfig(), Packing(), Augmentation(), 0, ExampleLimits(5, 448, 223, 30.0)),
    )
    at = f"{count:,} utterances"
    indices = list(range(0, count, max(1, count // _BATCH)))[:_BATCH]
    with ray_session():
        begun = time.perf_counter()
        stored = corpus.stored()
        put_s = time.perf_counter() - begun
        stored.utterances.take(indices)
        get_s = median_s(lambda: stored.utterances, _TIMES)
        held = stored.utterances
        take_s = median_s(lambda: held.take(indices), _TIMES)
    return [
        Figure("columns put into the object store", at, put_s, "s"),
        Figure("columns in the object store", at, corpus.utterances.table.nbytes / 2**20, "MiB per node"),
        Figure("columns opened by a worker", at, 1000 * get_s, "ms"),
        Figure(f"{len(indices)} utterances taken from the columns", at, 1000 * take_s, "ms"),
    ]
