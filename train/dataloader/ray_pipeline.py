"""Ray Data pipeline from micro-batch specs to ready tensors, ahead of the trainer and within a bound on memory.

A run's specs pass in chunks, each a Ray Data pipeline of its own that starts while the one before still has rows left:
neither are all specs of a run held at once, nor does the trainer wait where one chunk ends and the next begins.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import cast

import ray.data
from ray.data import ExecutionResources, TaskPoolStrategy

from asr.audio.features import FRAMES_PER_S
from cluster.resources import DATA_TASK_CPUS
from train.dataloader.preprocess import MicroBatchTensors
from train.dataloader.task import prepare_bundle
from train.examples import MicroBatchSpec, PreprocessConfig

_TASK_STORE_BYTES = 96 * 1024**2  # features ahead, for each task; a chunk that begins while another ends has as much
_PREFETCH = 1
_NO_PROGRESS_S = 1800  # a step of the trainer may take minutes, and a cluster minutes to find a core

# Micro-batches. Chunks are long, because a new pipeline makes do with one task for a second, until Ray Data's
# coordinator has told it what it may use, and has processes started beside those of the one before.
_FIRST_CHUNK, _LARGEST_CHUNK, _GROWTH = 512, 4096, 8
_OVERLAP = 256  # micro-batches left of a chunk when the next one begins
_CHUNK_BYTES = 64 * 1024**2  # of audio that travels inside the orders, as streams have it

# Micro-batches of a task. Small ones first, for the trainer to begin and other tasks to be let in, then long ones: Ray
# Data looks for finished tasks ten times a second, so that with 32 in each 100 ms of every 600 are idle. What a task
# makes leaves it in blocks, and it stands still where two of them wait to be taken.
_FIRST_TASK, _LARGEST_TASK, _LAST_TASK = 8, 128, 32
_TASK_BYTES = 64 * 1024**2
_BLOCK_BYTES = 8 * 1024**2
_FRAME_BYTES = 2 * 128 * FRAMES_PER_S  # float16, the most mel bins: a second of features


@dataclass(frozen=True)
class _Chunk:
    """Rows of a running pipeline, and how many there will be."""

    size: int
    rows: Iterator[MicroBatchTensors]


def stream(
    specs: Iterable[MicroBatchSpec], preprocess: PreprocessConfig, tasks: int = 1
) -> Iterator[MicroBatchTensors]:
    """Yield ``specs`` as tensors in their order, made by so many Ray Data tasks ahead of the consumer.

    ``specs`` may be endless: they are taken a few hundred ahead, in a thread.
    """
    chunks = _chunks(iter(specs))
    with ThreadPoolExecutor(1, thread_name_prefix="next-chunk") as ahead:
        chunk = _open(next(chunks, []), preprocess, tasks)
        while chunk is not None:
            coming = None
            for number, row in enumerate(chunk.rows):
                if number == max(chunk.size // 2, chunk.size - _OVERLAP):
                    coming = ahead.submit(lambda: _open(next(chunks, []), preprocess, tasks))
                yield row
            chunk = coming.result() if coming else None


def _open(specs: list[MicroBatchSpec], preprocess: PreprocessConfig, tasks: int) -> _Chunk | None:
    """Start preparing a chunk and return once its first row is there; None if no specs are left."""
    if not specs:
        return None
    bundles = list(_bundles(specs, tasks))
    # Pickled by us: Ray Data would first try to make columns of them, for some 10 ms of a task.
    items = [{"orders": pickle.dumps(bundle)} for bundle in bundles]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    context = dataset.context
    context.enable_progress_bars = False  # the run's own progress says more
    context.target_max_block_size = _BLOCK_BYTES
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=tasks * _TASK_STORE_BYTES)
    dataset = dataset.flat_map(
        prepare_bundle,
        fn_kwargs={"preprocess": preprocess},
        num_cpus=DATA_TASK_CPUS,
        compute=TaskPoolStrategy(min(tasks, len(items))),
    )
    # Whole blocks: cutting them into batches of one row costs 5 ms of the trainer's core for each.
    blocks = dataset.iterator().iter_batches(batch_size=None, prefetch_batches=_PREFETCH, batch_format="pyarrow")
    rows = (cast(MicroBatchTensors, pickle.loads(row.as_buffer())) for block in blocks for row in block["row"])
    return _Chunk(len(specs), chain([next(rows)], rows))


def _chunks(specs: Iterator[MicroBatchSpec]) -> Iterator[list[MicroBatchSpec]]:
    size, chunk, held = _FIRST_CHUNK, list[MicroBatchSpec](), 0
    for spec in specs:
        chunk.append(spec)
        held += sum(
            len(part.audio) for each in spec.examples for part in each.utterances if isinstance(part.audio, bytes)
        )
        if len(chunk) == size or held >= _CHUNK_BYTES:
            yield chunk
            size, chunk, held = min(_GROWTH * size, _LARGEST_CHUNK), [], 0
    if chunk:
        yield chunk


def _bundles(specs: Sequence[MicroBatchSpec], tasks: int) -> Iterator[Sequence[MicroBatchSpec]]:
    """Yield the specs of each task: more and more, then fewer, so that all tasks finish together at the end."""
    start, most = 0, _FIRST_TASK
    while start < len(specs):
        left = len(specs) - start
        size = min(most, max(_LAST_TASK, left // tasks))
        seconds = accumulate(spec.own_s for spec in specs[start : start + size])
        held = sum(own_s * _FRAME_BYTES < _TASK_BYTES for own_s in seconds)
        end = start + min(held + 1, size)
        yield specs[start:end]
        start, most = end, min(2 * most, _LARGEST_TASK)
