"""What each Ray Train worker runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from transformers import set_seed
from transformers.utils import logging

from asr.checkpoint import find_checkpoint
from asr.model import load_checkpoint
from asr.utterance import Utterance
from train.adapter import adapt
from train.config import TrainConfig
from train.feed import Feed, Share, rows_from
from train.progress import Board
from train.stream import Recipe
from train.trainer import RayReport, WhisperTrainer, arguments, earlier_totals, token_loss


@dataclass(frozen=True)
class Job:
    """What the driver gives each worker; pickled into Ray Train's loop config."""

    config: TrainConfig
    utterances: Sequence[Utterance]
    board: Board | None


def train_worker(loop_config: dict[str, Any]) -> None:
    """Train from the last checkpoint, or from the start."""
    job: Job = loop_config["job"]
    config, context = job.config, ray.train.get_context()
    logging.set_verbosity_error()
    torch.set_num_threads(config.workers.threads)
    set_seed(config.seed)
    args = arguments(config, Path.cwd() / "trainer")  # the worker's own folder of the run, on local disk
    model = load_checkpoint(find_checkpoint(config.base))
    network = adapt(model.network, config.strategy, config.lora)
    recipe = Recipe(config.base, config.language, config.task)
    share = Share(context.get_world_rank(), context.get_world_size())
    durations = [utterance.duration_s or 0.0 for utterance in job.utterances]
    with contextlib.ExitStack() as stack:
        checkpoint = ray.train.get_checkpoint()
        resume = stack.enter_context(checkpoint.as_directory()) if checkpoint else None
        before = earlier_totals(resume)
        steps = range(int(before.get("step", 0)), config.optim.max_steps)
        rows = rows_from(durations, config.plan, config.seed, steps, share)
        feed = Feed(
            job.utterances,
            rows,
            recipe,
            model.tokenizer.pad_token_id,
            config.data.max_faulty_share,
            config.workers.data_tasks_each,
        )
        report = RayReport(feed, job.board if share.rank == 0 else None, before, steps.start)
        trainer = WhisperTrainer(
            model=network, args=args, train_dataset=feed, compute_loss_func=token_loss, callbacks=[report]
        )
        if len(steps):
            trainer.train(resume_from_checkpoint=resume)
