"""Fits one configuration: starts the workers, watches them, and keeps the artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from asr.models.artifact import Card
from asr.models.checkpoint import find_checkpoint
from asr.models.head import InitialModel
from asr.utterance import Quarantined
from cluster.scaling import require_workers
from cluster.session import ray_session
from train.augmentation import augment
from train.checkpoints.best import BEST
from train.checkpoints.best import checkpoint as checkpoint_of_best
from train.checkpoints.data_log import DATA_LOG
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig
from train.corpus.corpus import Corpus, load
from train.corpus.static import StaticCorpus
from train.corpus.validation import CorpusValidator
from train.evaluation.evaluator import scored_on
from train.events import Progress, Scored
from train.run.finalize import hand_over, state
from train.run.initial import initial_model
from train.run.supervisor import train_to_end
from train.run.worker import TrainJob
from train.sampling.sampler import Ordering
from train.tracking.listener import watching
from train.trainer import strategy
from train.trainer.deepspeed import derive, fixed_world_size


@dataclass(frozen=True)
class Fitted:
    """A finished run."""

    artifact: str
    """A local folder, or an address."""
    card: Card


@dataclass(frozen=True)
class TrainingData:
    """The utterances of a run, and the model that is trained on them: a new head is made for their transcripts."""

    initial: InitialModel
    corpus: Corpus


def fit(
    config: TrainConfig,
    on_progress: Callable[[Progress], None] | None = None,
    address: str | None = None,
    on_scored: Callable[[Scored], None] | None = None,
    data: TrainingData | None = None,
) -> Fitted:
    """Fine-tune as ``config`` says and return the artifact's path, ``<run.folder>/<run.name>/artifact``.

    ``on_scored`` is called with each new evaluation. ``data`` is what ``training_data`` returns, where that was
    read before.

    A run that was interrupted, by Ctrl-C (KeyboardInterrupt) or worse, resumes from its last checkpoint. Raises
    UserError if the run is finished already, was started with other settings, or its data cannot be used.
    """
    run = RunFolder.of(config)
    run.require_unfinished()
    require(config)
    data = training_data(config) if data is None else data
    initial, corpus = data.initial, data.corpus
    run.claim(config, corpus.fingerprint, config.workers.count if fixed_world_size(config.parallelism) else None)
    with ray_session(address):
        require_workers(config.workers)
        scoring = scored_on(config, initial, run.uri)
        with watching(run, config, on_progress, on_scored) as (progress, history):
            data_log = run.file(DATA_LOG) if config.run.data_log else None
            last = train_to_end(run, TrainJob(config, initial, corpus.shared(), progress, scoring, data_log))
    quarantined = [*corpus.quarantined, *(Quarantined(**row) for row in state(last)["quarantined"])]
    run.write_quarantine(quarantined)
    reasons = dict(Counter(row.reason for row in quarantined))
    about = {"fingerprint": corpus.fingerprint, **corpus.size, "quarantined": reasons}
    with run.artifact_draft() as draft:
        best = checkpoint_of_best(run.file(BEST)) if scoring else None
        card = hand_over(draft, config, initial, about, last, best, history)
    return Fitted(run.artifact, card)


def require(config: TrainConfig) -> None:
    """Raise UserError if this machine lacks something that a run needs, before anything is read or started."""
    config.tracking.require()
    strategy.require(config.strategy, config.workers.gpu)
    derive(config, config.workers.most)  # a contradiction in what it amends is better known now than in a worker
    augment.require(config.augment)
    find_checkpoint(config.base)  # fetched once and known to be good, before any worker waits for it


def training_data(config: TrainConfig, read: TrainingData | None = None) -> TrainingData:
    """Return what a run starts from. Raises UserError as ``initial_model`` and ``train.corpus.corpus.load`` do.

    ``read`` is that of another run with the same data, base, head, language and task: sources are not read again.
    """
    initial = initial_model(config) if read is None else read.initial
    validator = CorpusValidator(config.preprocess(initial), config.data.long_clips)
    ordering = Ordering(config.batching, config.packing, config.augment, config.seed, validator.limits)
    if read is not None and isinstance(read.corpus, StaticCorpus):
        return TrainingData(initial, read.corpus.ordered(ordering))
    return TrainingData(initial, load(config.data, validator, ordering))
