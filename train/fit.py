"""From a configuration to an artifact: start the workers, watch them, keep what they made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig
from ray.train.torch import TorchTrainer

from asr.artifact import CARD, Card
from asr.checkpoint import find_checkpoint
from asr.errors import UserError
from asr.manifest import read_manifest
from asr.utterance import Utterance
from cluster.session import ray_session
from train.config import TrainConfig
from train.handover import hand_over
from train.prepare import fingerprint
from train.progress import Progress, ProgressBoard
from train.worker import Job, train_worker

_POLL_S = 1.0
_RECORD = "run.json"  # what a run was started with


@dataclass(frozen=True)
class Fitted:
    """A finished run."""

    artifact: Path
    card: Card


def fit(
    config: TrainConfig, on_progress: Callable[[Progress], None] | None = None, address: str | None = None
) -> Fitted:
    """Fine-tune as ``config`` says and return the artifact's place, ``<run.folder>/<run.name>/artifact``.

    A run that was interrupted goes on from its last checkpoint. Raises UserError where the run is finished already,
    was started with other settings, or its data cannot be used.
    """
    folder = (config.run.folder / config.run.name).resolve()
    if (folder / "artifact" / CARD).is_file():
        raise UserError(
            f"{folder}: this run is finished", "choose another run.name, or delete the folder to train anew"
        )
    utterances = trainable(config.data.train)
    find_checkpoint(config.base)  # fetched once and known to be good, before any worker waits for it
    _claim(folder, config, utterances)
    with ray_session(address):
        board = ray.remote(num_cpus=0)(ProgressBoard).remote() if on_progress else None
        with _watching(board, on_progress):
            result = _run(folder, Job(config, utterances, board))
    card = hand_over(folder / "artifact", config, utterances, result.checkpoint)
    return Fitted(folder / "artifact", card)


def trainable(manifest: Path) -> list[Utterance]:
    """Return a manifest's utterances. Raises UserError naming the first one without a duration or a text."""
    utterances = read_manifest(manifest)
    for utterance in utterances:
        if not utterance.duration_s:
            raise UserError(f"{manifest}: '{utterance.id}' has no duration", "`whisperfleet data prepare` measures it")
        if not utterance.text.strip():
            raise UserError(
                f"{manifest}: '{utterance.id}' has no text", "`whisperfleet data prepare` puts such rows aside"
            )
    return utterances


def _claim(folder: Path, config: TrainConfig, utterances: list[Utterance]) -> None:
    """Record what the run is started with, or raise UserError where it was started with something else."""
    settings = config.model_dump(mode="json", exclude={"run", "workers", "data"})
    record = {"settings": settings, "data": fingerprint(utterances)}
    path = folder / _RECORD
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2), encoding="utf-8")
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key in settings if earlier["settings"].get(key) != settings[key]]
    changed += ["data.train"] if earlier["data"] != record["data"] else []
    if changed:
        raise UserError(
            f"{folder}: this run was started with other settings: {', '.join(changed)}",
            "choose another run.name, or delete the folder to train anew",
        )


def _run(folder: Path, job: Job) -> ray.train.Result:
    config = job.config
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=config.workers.scaling_config(),
        run_config=ray.train.RunConfig(
            name="checkpoints",  # the same name in the same place: Ray goes on from the last checkpoint
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=config.workers.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=config.run.keep_checkpoints),
        ),
    )
    try:
        return trainer.fit()
    except ray.train.WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause = _user_error(failure)
            if cause:
                raise cause from None
        raise


def _user_error(failure: BaseException | None) -> UserError | None:
    """Return the UserError that a worker's failure wraps, however deep."""
    while failure is not None and not isinstance(failure, UserError):
        failure = getattr(failure, "cause", None) or failure.__cause__
    return failure


@contextmanager
def _watching(board: Any, on_progress: Callable[[Progress], None] | None) -> Iterator[None]:
    """Call ``on_progress`` from a thread with each new step that the board holds, until the block ends."""
    if board is None or on_progress is None:
        yield
        return
    done = Event()

    def watch() -> None:
        seen = 0
        while not done.wait(_POLL_S):
            progress = ray.get(board.newest.remote())
            if progress is not None and progress.step != seen:
                seen = progress.step
                on_progress(progress)

    thread = Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
