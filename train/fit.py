"""From a configuration to an artifact: start the workers, watch them, keep what they made."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig
from ray.train.torch import TorchTrainer

from asr.artifact import CARD, Card
from asr.checkpoint import find_checkpoint
from asr.errors import UserError
from asr.labels import prompt_ids
from asr.manifest import read_manifest
from asr.model import load_processor
from asr.utterance import Utterance
from cluster.session import ray_session
from train.config import TrainConfig
from train.handover import hand_over
from train.prepare import fingerprint
from train.progress import Progress, ProgressBoard
from train.worker import Job, train_worker

_POLL_S = 1.0
_ANSWER_S = 10.0
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

    A run that was interrupted, by Ctrl-C (KeyboardInterrupt) or worse, goes on from its last checkpoint. Raises
    UserError where the run is finished already, was started with other settings, or its data cannot be used.
    """
    folder = (config.run.folder / config.run.name).resolve()
    if (folder / "artifact" / CARD).is_file():
        raise UserError(
            f"{folder}: this run is finished", "choose another run.name, or delete the folder to train anew"
        )
    if (folder / "artifact").exists():
        raise UserError(f"{folder / 'artifact'}: in the way of this run's artifact", "it has no card: delete it")
    utterances = trainable(config.data.train)
    checkpoint = find_checkpoint(config.base)  # fetched once and known to be good, before any worker waits for it
    tokenizer, _ = load_processor(checkpoint)
    for language in {utterance.language or config.language for utterance in utterances}:
        prompt_ids(tokenizer, language, config.task)  # in a Ray Data task its UserError would be lost in a traceback
    _claim(folder, config, utterances)
    with ray_session(address):
        config.workers.require()
        board = ray.remote(num_cpus=0)(ProgressBoard).remote() if on_progress else None
        with _watching(board, on_progress):
            last = _run(folder, Job(config, utterances, board))
    card = hand_over(folder / "artifact", config, utterances, last)
    return Fitted(folder / "artifact", card)


def trainable(manifest: Path) -> list[Utterance]:
    """Return a manifest's utterances. Raises UserError naming the first one without a duration or a text."""
    utterances = read_manifest(manifest.resolve())  # workers have other working folders than this process
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


def _run(folder: Path, job: Job) -> Checkpoint:
    """Return the last checkpoint. After a worker died the run goes on, but a person's mistake is not tried again."""
    failures = 0
    while True:
        try:
            with _interruptible():
                return _trainer(folder, job).fit().checkpoint
        except ray.train.WorkerGroupError as error:
            for failure in error.worker_failures.values():
                mistake = _user_error(failure)
                if mistake:
                    raise mistake from None
            failures += 1
            if failures > job.config.workers.max_failures:
                raise


def _trainer(folder: Path, job: Job) -> TorchTrainer:
    config = job.config
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=config.workers.scaling_config(),
        run_config=ray.train.RunConfig(
            name="checkpoints",  # the same name in the same place: Ray goes on from the last checkpoint
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0),  # counted in _run: Ray would try again whatever the error is
            checkpoint_config=CheckpointConfig(num_to_keep=config.run.keep_checkpoints),
        ),
    )


def _user_error(failure: BaseException | None) -> UserError | None:
    """Return the UserError that a worker's failure wraps, however deep."""
    while failure is not None and type(failure) is not UserError:  # RayTaskError(UserError) is a traceback as a text
        failure = getattr(failure, "cause", None) or failure.__cause__
    return failure


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt: Ray Train's handler stops the workers, but then exits mutely, and stays."""
    if threading.current_thread() is not threading.main_thread():  # Ray leaves the signal alone
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def _watching(board: Any, on_progress: Callable[[Progress], None] | None) -> Iterator[None]:
    """Call ``on_progress`` from a thread with each new step that the board holds, until the block ends."""
    if board is None or on_progress is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        seen, finished = None, False
        while not finished:
            finished = done.wait(_POLL_S)  # and then one look more: at the last step
            with contextlib.suppress(ray.exceptions.RayError):  # the cluster is gone, which the run itself will notice
                progress = ray.get(board.newest.remote(), timeout=_ANSWER_S)
                if progress != seen:
                    seen = progress
                    on_progress(progress)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
