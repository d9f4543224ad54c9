"""Trainer callback that reports each step, each checkpoint and each evaluation to Ray and the run's progress actor."""

from __future__ import annotations

import json
import resource
import socket
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ray
import ray.train
import torch
from transformers import TrainerCallback

from asr.io.unretryable import writing
from asr.models.family import SpeechModel
from asr.parsed import JsonObject
from train.checkpoints import data_log
from train.checkpoints.best import keep
from train.checkpoints.upload import STATE, THEN, CheckpointUploads
from train.dataloader.dataset import DataStats, MicroBatchDataset
from train.evaluation.evaluator import Evaluator, gather
from train.evaluation.schedule import as_json
from train.events import Progress, ProgressActor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments

_TOLD_S = 5.0  # that a checkpoint waits until its step has been told of

__all__ = ["STATE", "RayReport", "earlier_totals"]


class RayReport(TrainerCallback):
    """Reports each step to the progress actor and each checkpoint to Ray, and has the network scored where it is due.

    ``evaluator`` and ``model`` (tokenizer and features; its network is not used) are for runs that are scored,
    ``data_log`` is the folder of one that keeps it.
    """

    def __init__(
        self,
        dataset: MicroBatchDataset,
        progress: ProgressActor | None,
        before: JsonObject,
        resumed_at: int,
        evaluator: Evaluator | None = None,
        model: SpeechModel | None = None,
        data_log: str | None = None,
    ) -> None:
        self._dataset, self._progress, self._before, self._resumed_at = dataset, progress, before, resumed_at
        self._evaluator, self._model = evaluator, model
        self._data_log, self._saved_at = data_log, resumed_at
        self._uploads = CheckpointUploads()
        self._told: ray.ObjectRef[None] | None = None
        self._started: float | None = None
        self._evaluation_s = 0.0
        self.begun = time.monotonic()
        """Time at which this worker began to hold its device: at the latest now."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start the clock with the first step: loading the model and starting Ray Data is not training."""
        if self._started is None:
            self._started = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Post the step's figures."""
        if self._progress is not None and logs and "loss" in logs:
            world_size = ray.train.get_context().get_world_size()
            stats = self._dataset.stats  # steps are shared out evenly: times the workers is near enough here
            now = self._totals(stats.audio_s * world_size, stats.tokens * world_size)
            self._told = self._progress.post.remote(
                Progress(
                    step=state.global_step,
                    max_steps=state.max_steps,
                    loss=logs["loss"],
                    learning_rate=logs["learning_rate"],
                    seconds=now["seconds"],
                    audio_s=now["audio_s"],
                    wait_s=now["wait_s"],
                    resumed_at=self._resumed_at,
                    grad_norm=logs.get("grad_norm"),
                    blank_share=logs.get("blank_share"),
                    tokens=int(now["tokens"]),
                    padding_share=stats.padding_share,
                    memory_bytes=_peak_memory_bytes(),
                )
            )

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **kwargs: object,
    ) -> None:
        """Report the checkpoint that transformers wrote, once it is whole on every worker; stop where hope is gone."""
        context, step, evaluator = ray.train.get_context(), state.global_step, self._evaluator
        folder = Path(args.output_dir) / f"checkpoint-{step}"
        due = evaluator is not None and evaluator.scoring.due(step, state.max_steps)
        metrics, keep_best = {}, None
        if evaluator is not None and self._model is not None and due and not evaluator.scoring.is_async:
            started = time.monotonic()
            scored = evaluator.score(model, self._model, step)
            self._evaluation_s += time.monotonic() - started
            if scored is not None:
                metrics["wer"] = scored.wer
            if scored is not None and context.get_world_rank() == 0:
                keep_best = partial(keep, evaluator.scoring.best, folder, step, scored.summary)
        # Ranks of a node share the folder. All of them have written their part of it once all are here.
        consumed = (
            self._dataset.take_consumed()
        )  # taken in any case, or it would grow; sent to all workers only where it is kept
        news = evaluator.news() if evaluator is not None else []
        parts = gather((self._dataset.stats, news, consumed if self._data_log is not None else []))
        all_stats: list[DataStats] = [stats for stats, _, _ in parts]
        if evaluator is not None:
            evaluator.take_news(parts[0][1])
            control.should_training_stop = control.should_training_stop or evaluator.done
        audio_s, tokens = sum(one.audio_s for one in all_stats), sum(one.tokens for one in all_stats)
        totals = {"step": step, **self._totals(audio_s, tokens)}
        if context.get_world_rank() == 0:
            if self._data_log is not None:
                data_log.write(self._data_log, self._saved_at, step, [consumed for _, _, consumed in parts])
            text = json.dumps(totals | self._found(all_stats))
            what = f"{len(text) / 1e6:,.1f} MB of a checkpoint on the local disk of {socket.gethostname()}"
            with writing(folder, what, THEN):
                (folder / STATE).write_text(text, encoding="utf-8")
        self._saved_at = step
        if self._told is not None:  # else a worker that is killed now leaves a step that is saved and in no history
            ray.wait([self._told], timeout=_TOLD_S)
        self._uploads.report(
            {**totals, "loss": _last_loss(state), **metrics},
            folder if context.get_local_rank() == 0 else None,
            f"step_{step:07d}",
            validate=bool(due and evaluator is not None and evaluator.scoring.is_async),
            before=keep_best,
        )

    def _found(self, all_stats: list[DataStats]) -> dict[str, object]:
        """Return what could not be used and what was scored, in this and all earlier attempts."""
        found = [asdict(row) for stats in all_stats for row in stats.quarantined]
        once = {row["id"]: row for row in (*self._before.get("quarantined", []), *found)}  # each epoch meets them anew
        return {
            "quarantined": list(once.values()),
            "evaluations": as_json(self._evaluator.scored) if self._evaluator else [],
        }

    def _totals(self, audio_s: float, tokens: int) -> dict[str, float]:
        """Return what is counted, in this and all earlier attempts.

        Seconds since the first step, those of waiting and of evaluations in them, those in which this worker and (all
        together) every worker held its device; audio seconds and tokens.
        """
        now = time.monotonic()
        parts = {"seconds": 0.0 if self._started is None else now - self._started, "audio_s": audio_s}
        parts |= {"wait_s": self._dataset.stats.wait_s, "tokens": tokens, "evaluation_s": self._evaluation_s}
        held_s = now - self.begun
        parts |= {"held_s": held_s, "device_s": held_s * ray.train.get_context().get_world_size()}
        return {name: value + self._before.get(name, 0) for name, value in parts.items()}


def _peak_memory_bytes() -> int:
    if torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _last_loss(state: TrainerState) -> float:
    return float(next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), float("nan")))


def earlier_totals(checkpoint: str | None) -> JsonObject:
    """Return what the last checkpoint's run had counted by then; empty for a run that starts."""
    if checkpoint is None:
        return {}
    return dict(json.loads((Path(checkpoint) / STATE).read_text(encoding="utf-8")))
