"""The function that each Ray Train worker runs."""

from __future__ import annotations

import contextlib
import shutil
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import ray.cloudpickle
import ray.train
import ray.train.torch
import torch
from transformers import set_seed
from transformers.utils import logging

from asr.io.unretryable import unretryable
from asr.models.head import InitialModel
from asr.parsed import JsonObject
from train.callbacks.checkpoint_report import RayReport, earlier_totals
from train.callbacks.gradient_flow import GradientWatch, steps_to_meet_all
from train.callbacks.learning import LearningWatch
from train.callbacks.nonfinite import NonFiniteGuard
from train.callbacks.stall import StallDetector
from train.checkpoints.data_log import cut
from train.checkpoints.upload import THEN
from train.config import TrainConfig
from train.corpus.corpus import Corpus
from train.dataloader.dataset import MicroBatchDataset, RankSlice, WorkerShard
from train.evaluation.evaluator import Evaluator
from train.evaluation.schedule import Scoring, from_json
from train.events import ProgressActor
from train.trainer.adapter import adapt, load_base
from train.trainer.arguments import arguments
from train.trainer.trainer import MicroBatchTrainer


@dataclass(frozen=True)
class TrainJob:
    """Job that the driver gives each worker; pickled into Ray Train's loop config."""

    config: TrainConfig
    initial: InitialModel
    corpus: Corpus
    progress: ProgressActor | None
    scoring: Scoring | None = None
    data_log: str | None = None


def train_worker(loop_config: JsonObject) -> None:
    """Train from the last checkpoint, or from the start.

    Raises only errors that can be sent to the driver. Errors that hold the network, as torch.compile's do, cannot: the
    run would end with Ray's complaint about that in place of the reason.
    """
    try:
        _train(loop_config["job"])
    except Exception as error:
        if mistake := unretryable(error, then=THEN):  # here, where the cause is still known
            raise mistake from None
        if _can_be_sent(error):
            raise
        traceback.print_exc()  # into the worker's log, as nobody else can
        raise RuntimeError("".join(traceback.format_exception_only(error)).strip()) from None


def _can_be_sent(error: Exception) -> bool:
    try:
        ray.cloudpickle.dumps(error)
    except Exception:
        return False
    return True


def _train(job: TrainJob) -> None:
    begun = time.monotonic()
    config, context = job.config, ray.train.get_context()
    logging.set_verbosity_error()
    torch.set_num_threads(config.workers.threads)
    set_seed(config.seed)
    output = Path.cwd() / "trainer"  # the worker's own folder of the run, on local disk
    if context.get_local_rank() == 0:
        shutil.rmtree(output, ignore_errors=True)  # what a killed attempt had not finished uploading
    # The model first: once transformers knows of ZeRO-3 it loads a piece of each weight, of no use outside its trainer.
    device = str(ray.train.torch.get_device()) if config.workers.gpu else "cpu"
    model = load_base(job.initial.checkpoint(), config.strategy, config.precision, device)
    args = arguments(config, output, context.get_world_size())
    rank_slice = RankSlice(context.get_world_rank(), context.get_world_size())
    with contextlib.ExitStack() as stack:
        checkpoint = ray.train.get_checkpoint()
        resume = stack.enter_context(checkpoint.as_directory()) if checkpoint else None
        before = earlier_totals(resume)
        steps = range(int(before.get("step", 0)), config.optim.max_steps)
        progress = job.progress if rank_slice.rank == 0 else None
        evaluator = (
            Evaluator(job.scoring, progress, from_json(before.get("evaluations", ())), steps.start)
            if job.scoring
            else None
        )
        if evaluator is not None:
            if model.network.device.type != args.device.type:  # 4-bit weights are there, and would not move
                model.network.to(args.device)
            evaluator.score_base(model)
        if job.data_log is not None and rank_slice.rank == 0:
            cut(job.data_log, steps.start)
        network = adapt(model.network, config.strategy, config.lora, config.regularisation)
        dataset = MicroBatchDataset(
            WorkerShard(job.corpus, steps, rank_slice),
            config.preprocess(job.initial),
            config.data.max_quarantined_share,
            config.workers.data_tasks_each,
        )
        report = RayReport(dataset, progress, before, steps.start, evaluator, model, job.data_log)
        report.begun = begun
        loss = model.family.loss(model.network)
        sound = NonFiniteGuard(dataset, config.precision, loss)
        learning = LearningWatch(loss, config.optim.warmup_steps)
        trainer = MicroBatchTrainer(
            model=network,
            args=args,
            train_dataset=dataset,
            compute_loss_func=sound,
            callbacks=[GradientWatch(steps_to_meet_all(config.ctc.layerdrop)), sound, learning, report],
        )
        if job.initial.head:
            trainer.head = model.family.layers(model.network).head
            trainer.head_learning_rate = config.ctc.head_learning_rate
        stack.enter_context(StallDetector(job.progress, rank_slice.rank, dataset, steps.start).beating(trainer))
        if len(steps) and not (evaluator and evaluator.done):
            trainer.train(resume_from_checkpoint=resume)
