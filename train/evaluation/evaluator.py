"""Evaluates a run's network at one of its steps on samples: by all workers, or in a task beside them."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import ray
import torch
import torch.distributed
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from asr.audio.features import Context
from asr.data.sources import rows
from asr.errors import UserError, one_line
from asr.io import storage
from asr.io.cache import cache_root
from asr.models.artifact import merge_adapter
from asr.models.family import SpeechModel, best_device, load_checkpoint, load_processor
from asr.models.head import InitialModel
from asr.models.letters import require_letters
from asr.scoring.error_rates import has_words
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.utterance import Utterance
from train import console
from train.checkpoints.best import BEST, keep
from train.config import TrainConfig
from train.evaluation.gathered_weights import is_shared_out, whole
from train.evaluation.offline import evaluate
from train.evaluation.schedule import Scoring, choose_async, exhausted, sample
from train.events import Corpus, Failed, ProgressActor, Scored

_SHOWN_CHARACTERS = 300  # of an error that is none of a person's

T = TypeVar("T")


class Evaluator:
    """A worker's view of the run's evaluations, and its part in those that are made in step with training.

    Every worker has one and asks it the same at the same steps, so all of them come to the same answers.
    """

    def __init__(
        self, scoring: Scoring, progress: ProgressActor | None, scored: Sequence[Scored], resumed_at: int
    ) -> None:
        self.scoring = scoring
        self._progress = progress
        self._scored = {(one.corpus, one.step): one for one in scored}
        # What a killed attempt scored beyond its last checkpoint will be scored again.
        self._take(one for one in gather(self.news())[0] if one.step <= resumed_at)

    @property
    def scored(self) -> list[Scored]:
        """All evaluations so far, as far as the workers know."""
        return list(self._scored.values())

    @property
    def done(self) -> bool:
        """Return whether patience is at its end."""
        return exhausted(self.scored, self.scoring.config.patience)

    def news(self) -> list[Scored]:
        """Return all that the progress actor knows; an empty list in workers that have none."""
        return list(ray.get(self._progress.scored.remote())) if self._progress is not None else []

    def take_news(self, news: Sequence[Scored]) -> None:
        """Take note of evaluations made beside the workers: the same ones, at the same step, in each worker."""
        if self.scoring.is_async:
            self._take(news)

    def score_base(self, model: SpeechModel) -> None:
        """Score the base model on the retention sample, unless an earlier attempt has done so."""
        if self.scoring.retention and not self.scoring.is_async and ("retention", 0) not in self._scored:
            self._score(model, "retention", 0, model.context)

    def score(self, network: nn.Module, model: SpeechModel, step: int) -> Scored | None:
        """Score the network that is being trained, all workers together. Returns what validation said.

        That is None where the evaluation failed: the progress actor is told, and training goes on.
        """
        try:
            with frozen(network) as ready:
                model = replace(model, network=ready)
                for corpus in corpora(self.scoring):
                    self._score(model, corpus, step, self.scoring.context)
        except UserError as error:
            self._tell(Failed(step, error.message))
        return self._scored.get(("validation", step))

    def _score(self, model: SpeechModel, corpus: Corpus, step: int, context: Context) -> None:
        told: Scored | Failed
        try:
            told = score(model, self.scoring, corpus, step, context)
            self._take([told])
        except UserError as error:
            told = Failed(step, error.message)
        self._tell(told)

    def _tell(self, told: Scored | Failed) -> None:
        if self._progress is not None:
            self._progress.post.remote(told)

    def _take(self, scored: Iterable[Scored]) -> None:
        self._scored |= {(one.corpus, one.step): one for one in scored}


@dataclass(frozen=True)
class AsyncValidation:
    """Scores a checkpoint in the task that Ray Train starts for it, and keeps its weights where they are the best."""

    scoring: Scoring
    initial: InitialModel
    threads: int
    progress: ProgressActor

    def __call__(self, checkpoint: ray.train.Checkpoint) -> dict[str, float]:
        """Return the word error rate. Errors go to the progress actor too: Ray Train only writes them to a log."""
        torch.set_num_threads(self.threads)
        step = int(str(checkpoint.path).rpartition("_")[2])
        try:
            with checkpoint.as_directory() as folder:
                return self._score(Path(folder), step)
        except Exception as error:
            ray.get(self.progress.post.remote(Failed(step, f"{type(error).__name__}: {error}")))
            raise

    def _score(self, folder: Path, step: int) -> dict[str, float]:
        model = load_checkpoint(self.initial.checkpoint(), best_device())
        known = {(one.corpus, one.step) for one in ray.get(self.progress.scored.remote())}
        if self.scoring.retention and ("retention", 0) not in known:
            self._post(self._told(model, "retention", 0, model.context))
        model = with_weights(model, folder)
        told = {name: self._told(model, name, step, self.scoring.context) for name in corpora(self.scoring)}
        validation = told["validation"]
        if isinstance(validation, Scored):
            # The weights before the figures: a figure that is known is never known of weights that are not.
            keep(self.scoring.best, folder, step, validation.summary)
        for one in told.values():
            self._post(one)
        return {"wer": validation.wer} if isinstance(validation, Scored) else {}

    def _told(self, model: SpeechModel, corpus: Corpus, step: int, context: Context) -> Scored | Failed:
        try:
            return score(model, self.scoring, corpus, step, context)
        except UserError as error:
            return Failed(step, error.message)

    def _post(self, told: Scored | Failed) -> None:
        ray.get(self.progress.post.remote(told))


def scored_on(config: TrainConfig, initial: InitialModel, uri: str) -> Scoring | None:
    """Return what a run in the folder ``uri`` is scored on, and say where; None without ``data.validation``.

    Raises UserError where there is nothing to score, the checkpoint does not speak a clip's language or has not its
    letters, or the connected cluster has no room for what was asked for.
    """
    if config.data.validation is None:
        return None
    is_async = choose_async(config.evaluation.mode, config.workers, ray.cluster_resources())
    console.say(
        f"evaluations: {'beside the workers, while they train' if is_async else 'by the workers, between steps'}"
    )
    samples = {}
    for corpus, source in (("validation", config.data.validation), ("retention", config.data.retention)):
        found = rows(source, cache_root()) if source is not None else ()
        utterances = [row for row in found if isinstance(row, Utterance) and has_words(row.text)]
        if source is not None and not utterances:
            raise UserError(f"data.{corpus}: {source.source} has no utterance with a transcript")
        samples[corpus] = sample(utterances, config.evaluation.sample_clips, config.seed)
    processor = load_processor(initial.checkpoint())
    for corpus, sampled in samples.items():
        if told := require_letters(processor, sampled, f"data.{corpus}"):
            console.say(told)
    for utterance in (*samples["validation"], *samples["retention"]):
        processor.require(utterance.language or config.language, config.task)
    return Scoring(
        config=config.evaluation,
        **samples,
        every_steps=config.evaluation.every_steps or config.run.checkpoint_every_steps,
        is_async=is_async,
        context="full" if config.batching.full_window_share == 1.0 else "short",
        language=config.language,
        best=storage.join(uri, BEST),
    )


def gather(value: T) -> list[T]:
    """Return what each worker of the run holds, by rank; all of them have to come here together."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return [value]
    values = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def corpora(scoring: Scoring) -> list[Corpus]:
    """Return what is scored at each evaluation."""
    return ["validation", "retention"] if scoring.retention else ["validation"]


def score(model: SpeechModel, scoring: Scoring, corpus: Corpus, step: int, context: Context) -> Scored:
    """Score a model on a sample: this process its share, all workers of a run together the whole.

    Transcripts are gathered, so that the interval is that of all utterances. Raises UserError, in all workers alike,
    where no utterance can be used, or decoding fails in one of them, for whatever reason.
    """
    utterances: Sequence[Utterance] = getattr(scoring, corpus)
    alone = scoring.is_async or not torch.distributed.is_initialized()
    rank, size = (0, 1) if alone else (torch.distributed.get_rank(), torch.distributed.get_world_size())
    share = utterances[rank::size]
    results: list[UtteranceResult] | None = []
    seconds, mistake = 0.0, ""
    with _random_state_kept():
        try:
            if share:
                done = evaluate(model, share, context, scoring.language, batch_clips=scoring.config.batch_clips)
                results, seconds = done.evaluation.results, done.evaluation.seconds
        except UserError as error:  # for all: a worker that leaves alone lets the others wait for ever
            mistake = error.message
        except Exception as error:  # a run does not die of its evaluation; half a sample is no figure
            traceback.print_exc()
            results, mistake = None, f"{type(error).__name__}: {one_line(error)[:_SHOWN_CHARACTERS]}"
    parts = [(results, seconds, mistake)] if alone else gather((results, seconds, mistake))
    broken = any(part is None for part, _, _ in parts)
    everything = sorted((result for part, _, _ in parts for result in part or ()), key=lambda result: result.id)
    if broken or not everything:
        raise UserError(f"data.{corpus}: {'; '.join(filter(None, (said for _, _, said in parts)))}")
    slowest = max(seconds for _, seconds, _ in parts)
    name = "base" if step == 0 else f"step {step}"
    return Scored(step, corpus, Evaluation(name, scoring.language, context, everything, slowest).summary())


def with_weights(model: SpeechModel, folder: Path) -> SpeechModel:
    """Return a base model with what a checkpoint of training holds: merged adapters, or other weights."""
    if (folder / "adapter_config.json").is_file():
        return merge_adapter(model, folder)
    return model.family.with_weights(model, folder)


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[PreTrainedModel]:
    """Yield the network inside one in training, ready to decode: adapters active, no dropout, weights whole.

    Afterwards the network is as it was. Where DeepSpeed shares out the weights (ZeRO-3), a whole copy is made in each
    worker; all of them have to come here together, and UserError is raised in all of them where that fails.
    """
    inner = network.get_base_model() if isinstance(network, PeftModel) else network
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield whole(network) if is_shared_out(inner) else inner
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leave torch's generators as they were: dropout masks must not depend on whether a run is scored."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        yield
