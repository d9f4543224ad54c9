"""Recordings through Ray Data: read and cut by tasks, decoded by a pool of actors that each hold the model."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ray
import ray.data
from ray.data import ActorPoolStrategy, ExecutionResources, TaskPoolStrategy

from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from asr.models.processor import LONGEST_WINDOW_S
from cluster.resources import DATA_TASK_CPUS, threads_each
from cluster.scaling import require
from serve.batch.decode_actor import DecodeActor, MakeEngine, unpacked
from serve.batch.window_task import RecordingTask, WindowTask, window_tasks
from serve.config import ServeConfig

# Of features on their way, for each task that reads and each actor that decodes: two hours of speech are 115 MB.
_STORE_BYTES = 64 * 1024**2
_BLOCK_BYTES = 4 * 1024**2  # 8 windows of 30 s: a block is what an actor is given at once, and progress is told by
_SHORTEST_S = 4.0  # encoder audio of the windows of a short-context model that a full batch is made of

_BUNDLE_FILES, _BUNDLE_BYTES = 32, 4 * 1024**2  # recordings of one task: a task costs 10 ms beside its work


@dataclass(frozen=True)
class Workforce:
    """Numbers of actors that decode, each with CPU threads and perhaps a GPU, and of tasks that read for them."""

    decoders: int
    threads: int
    gpu: bool
    readers: int

    @classmethod
    def of_cluster(cls, shared: bool) -> Workforce:
        """Return what the connected cluster is good for: an actor for each GPU, else for the cores of each node.

        A ``shared`` cluster is one that somebody else started; a local one is promised more CPUs than it has.
        """
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if gpus:
            return cls(gpus, threads_each(0, True, 1), True, 4 * gpus)
        if not shared:
            return cls(1, os.cpu_count() or 1, False, 2)
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        threads = max(min((count for count in cpus if count), default=1) - 1, 1)  # the other CPU is for reading
        decoders = max(sum((count - 1) // threads for count in cpus if count > 1), 1)
        return cls(decoders, threads, False, max(decoders, 2))

    @property
    def options(self) -> dict[str, float]:
        """The resources that Ray reserves for one actor. On a single CPU, half of it: the other half is for reading."""
        cpus = 1 if self.gpu else self.threads
        return {"num_cpus": cpus if cpus > 1 else 0.5} | ({"num_gpus": 1} if self.gpu else {})

    def config(self, config: ServeConfig) -> ServeConfig:
        """Return a configuration with this much for the model."""
        return config.model_copy(update={"cpus_each": self.threads, "gpu": 1.0 if self.gpu else 0.0})

    def require(self) -> None:
        """Raise UserError where the cluster is too small for one actor: Ray Data would wait for ever."""
        require({"CPU": self.options["num_cpus"] + DATA_TASK_CPUS}, "transcription", {"CPU": "add a node with CPUs"})


def describe(config: ServeConfig, make_engine: MakeEngine, workforce: Workforce) -> ModelInfo:
    """Return what must be known of the model to read for it, from a process that ends with its weights.

    Raises UserError where the model is missing, damaged or of no known family.
    """
    task = ray.remote(max_calls=1, max_retries=0, **workforce.options)(_info)
    try:
        info: ModelInfo = ray.get(task.remote(workforce.config(config), make_engine))
    except ray.exceptions.RayTaskError as error:
        if type(error.cause) is UserError:
            raise error.cause from None
        raise
    return info


def transcribe(
    tasks: Sequence[tuple[RecordingTask, int]],
    model: ModelInfo,
    config: ServeConfig,
    make_engine: MakeEngine,
    workforce: Workforce,
) -> Iterator[WindowTask]:
    """Yield the window tasks of recordings (with the bytes of each) as they are decoded, those of one not in order.

    Small files are read first, so that none waits for a long one; and a long one's windows are decoded among those of
    others, by all actors, while the rest of it is cut.
    """
    _hush()
    bundles = list(_bundles(sorted(tasks, key=lambda item: item[1])))
    # Pickled by us: Ray Data would first try to make columns of them, for some 10 ms of a task.
    dataset = ray.data.from_items([{"orders": pickle.dumps(one)} for one in bundles], override_num_blocks=len(bundles))
    context = dataset.context
    context.enable_progress_bars = False  # the run's own progress says more
    context.target_max_block_size = _BLOCK_BYTES
    store = (workforce.readers + workforce.decoders) * _STORE_BYTES
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=store)
    cut = dataset.flat_map(
        _cut,
        fn_kwargs={"model": model},
        num_cpus=DATA_TASK_CPUS,
        compute=TaskPoolStrategy(min(workforce.readers, len(bundles))),
    )
    decoded = cut.map_batches(
        DecodeActor,
        fn_constructor_args=(workforce.config(config), make_engine),
        batch_size=_windows(model, config),
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(min_size=1, max_size=workforce.decoders),
        **workforce.options,
    )
    for block in decoded.iterator().iter_batches(batch_size=None, prefetch_batches=1, batch_format="pyarrow"):
        yield from unpacked(block)


def _hush() -> None:
    """Keep Ray Data's plans and advice in its log file and off the screen; its errors stay."""
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":  # Ray Data's own: others are those of who called, for more than this
            handler.setLevel(logging.ERROR)


def _info(config: ServeConfig, make_engine: MakeEngine) -> ModelInfo:
    return make_engine(config).info


def _cut(row: dict[str, bytes], model: ModelInfo) -> Iterator[dict[str, bytes]]:
    for task in pickle.loads(row["orders"]):
        for window_task in window_tasks(task, model):
            yield {"row": pickle.dumps(window_task)}


def _windows(model: ModelInfo, config: ServeConfig) -> int:
    """Return how many windows an actor is given at once; it forms its batches of them by the audio that they hold."""
    return round(config.max_batch_audio_s / (LONGEST_WINDOW_S if model.context == "full" else _SHORTEST_S))


def _bundles(tasks: Sequence[tuple[RecordingTask, int]]) -> Iterator[list[RecordingTask]]:
    bundle, held = list[RecordingTask](), 0
    for task, size in tasks:
        if bundle and (len(bundle) == _BUNDLE_FILES or held + size > _BUNDLE_BYTES):
            yield bundle
            bundle, held = [], 0
        bundle.append(task)
        held += size
    if bundle:
        yield bundle
