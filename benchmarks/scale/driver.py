"""Cost of the driver and its progress actor: steps posted, history written, what a checkpoint gathers from all workers.

A thousand workers are not to be had on two cores: what each of them would send is made here and handled as by one.
"""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import ray

from benchmarks.provenance import tell
from benchmarks.scale.figures import Figure, Sizes, median_core_s, median_s
from cluster.session import ray_session
from train.checkpoints import data_log
from train.dataloader.dataset import ConsumedBatch, DataStats
from train.events import Progress, ProgressBoard
from train.tracking.history import History
from train.tracking.listener import Listener

_STEPS = 50  # between two checkpoints
_CLIPS = 6  # of a micro-batch
_HISTORY_STEPS = 2000
_ACTORS = 4


def driver(sizes: Sizes) -> list[Figure]:
    """Return the figures of the progress actor, of the history, of checkpoints and of calls."""
    tell("posting to the progress actor")
    with ray_session():
        figures = _board(sizes) + _calls(sizes)
    tell("writing history and data log")
    return figures + _history(sizes) + _checkpoint(sizes)


def _progress(step: int) -> Progress:
    return Progress(
        step, 100_000, 1.2345, 1e-5, step * 1.5, step * 4000.0, step * 0.01, 0, 0.7, step * 9000, 0.08, 2**34
    )


def _board(sizes: Sizes) -> list[Figure]:
    board = ray.remote(num_cpus=0)(ProgressBoard).remote()
    ray.get(board.scored.remote())
    begun = time.perf_counter()
    for step in range(1, sizes.posts + 1):
        board.post.remote(_progress(step))
    ray.get(board.scored.remote())
    post_s = (time.perf_counter() - begun) / sizes.posts
    waiting = len(ray.get(board.fetch.remote(0)))
    fetch_s = median_s(lambda: ray.get(board.fetch.remote(0)), 5)
    ray.kill(board)
    return [
        Figure("steps that the board takes", "posted by one worker", 1 / post_s, "1/s"),
        Figure("all that waits, fetched by the driver", f"{waiting:,} steps", 1000 * fetch_s, "ms"),
    ]


class _Idle:
    def poll(self) -> int:
        return 0


def _calls(sizes: Sizes) -> list[Figure]:
    """Return how fast one process asks many actors: what Ray Train's controller does with its workers."""
    actors = [ray.remote(num_cpus=0)(_Idle).remote() for _ in range(_ACTORS)]
    ray.get([actor.poll.remote() for actor in actors])
    count = min(sizes.workers, sizes.posts)

    def poll() -> None:
        ray.get([actors[number % _ACTORS].poll.remote() for number in range(count)])

    poll_s = median_s(poll, sizes.rounds)
    for actor in actors:
        ray.kill(actor)
    return [
        Figure("calls to actors, asked together by one process", f"{count:,} calls", count / poll_s, "1/s"),
        Figure("one look at all workers", f"{count:,} workers", 1000 * poll_s, "ms"),
    ]


def _history(sizes: Sizes) -> list[Figure]:
    steps = min(_HISTORY_STEPS, sizes.posts)
    with TemporaryDirectory() as folder:
        history = History(folder)
        listener = Listener(history, [])
        begun = time.perf_counter()
        for step in range(1, steps + 1):
            listener.take(_progress(step))
        written_s = (time.perf_counter() - begun) / steps
        size = history.path.stat().st_size / steps
        opened_s = median_core_s(lambda: History(folder), 3)
    return [
        Figure("steps written to the history", "without trackers", 1 / written_s, "1/s"),
        Figure("history", f"{steps:,} steps", size, "bytes per step"),
        Figure("history read when a run goes on", f"{steps:,} steps", 1e6 * opened_s / steps, "µs per step"),
    ]


def _checkpoint(sizes: Sizes) -> list[Figure]:
    met = [_met(worker) for worker in range(sizes.workers)]
    sent = [pickle.dumps((DataStats(), [], part)) for part in met]
    without = [pickle.dumps((DataStats(), [], []))] * sizes.workers
    heard_s = median_core_s(lambda: [pickle.loads(one) for one in sent], 3)
    without_s = median_core_s(lambda: [pickle.loads(one) for one in without], 3)
    with TemporaryDirectory() as folder:
        written_s = median_core_s(lambda: data_log.write(folder, 0, _STEPS, met), 3)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    ids = sizes.workers * _STEPS * _CLIPS
    at = f"{sizes.workers:,} workers, {_STEPS} steps"
    return [
        Figure("gathered at a checkpoint, without a ledger", at, sum(map(len, without)) / 2**20, "MiB to each worker"),
        Figure("the same read by each worker", at, 1000 * without_s, "ms"),
        Figure("gathered at a checkpoint, with a ledger", at, sum(map(len, sent)) / 2**20, "MiB to each worker"),
        Figure("the same read by each worker, with a ledger", at, 1000 * heard_s, "ms"),
        Figure("ledger written by the first worker", at, written_s, "s"),
        Figure("ledger", at, size / ids, "bytes per utterance"),
    ]


def _met(worker: int) -> list[ConsumedBatch]:
    return [
        ConsumedBatch(0, tuple(f"utterance-{worker:05}{step:03}{clip}" for clip in range(_CLIPS)))
        for step in range(_STEPS)
    ]
