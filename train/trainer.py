"""transformers' trainer, fed by us: where batches come from, how the loss is weighted, what goes to Ray."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed
from ray.train import Checkpoint
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback
from transformers.modeling_outputs import Seq2SeqLMOutput

from asr.labels import IGNORED
from train.config import TrainConfig
from train.feed import Feed, Tally
from train.progress import Board, Progress

STATE = "whisperfleet.json"


def arguments(config: TrainConfig, output: Path) -> Seq2SeqTrainingArguments:
    """Derive transformers' arguments from the run's configuration."""
    optim, run = config.optim, config.run
    return Seq2SeqTrainingArguments(
        output_dir=str(output),
        max_steps=optim.max_steps,
        learning_rate=optim.learning_rate,
        warmup_steps=optim.warmup_steps,
        lr_scheduler_type=optim.schedule,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.max_grad_norm,
        gradient_accumulation_steps=config.plan.micro_batches_per_step // config.workers.count,
        bf16=config.precision == "bf16",
        use_cpu=not config.workers.gpu,
        seed=config.seed,
        save_strategy="steps",
        save_steps=run.checkpoint_every_steps,
        save_total_limit=1,  # a local copy: Ray keeps the checkpoints of the run
        logging_strategy="steps",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        ignore_data_skip=True,  # the feed starts at the right step by itself, without decoding what was consumed
        average_tokens_across_devices=True,
    )


class WhisperTrainer(Seq2SeqTrainer):
    """Trains on a ``Feed`` as it comes: already batched, shared out among the workers and in order."""

    def get_train_dataloader(self) -> DataLoader:
        """Return the feed itself: accelerate would slice it a second time among the workers."""
        # A generator of its own: with the global one, opening the loader would draw from it, and a resumed run would
        # go on with other dropout masks than the run that it continues.
        return DataLoader(self.train_dataset, batch_size=None, generator=torch.Generator())


def token_loss(
    outputs: Seq2SeqLMOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross entropy summed over tokens and divided by the tokens of the whole step, on all workers.

    Each token weighs the same, however utterances fell into micro-batches. Whisper's own loss is a mean over each
    micro-batch (transformers pull request 46068).
    """
    logits = outputs.logits.flatten(0, 1).float()
    total = torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    tokens = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return total / torch.as_tensor(tokens, device=total.device).clamp(min=1)


class RayReport(TrainerCallback):
    """Tells Ray of each checkpoint and the progress board of each step."""

    def __init__(self, feed: Feed, board: Board | None, before: dict[str, Any], resumed_at: int) -> None:
        self._feed, self._board, self._before, self._resumed_at = feed, board, before, resumed_at
        self._started: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock with the first step: loading the model and starting Ray Data is not training."""
        if self._started is None:
            self._started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Post the step's loss."""
        if self._board is not None and logs and "loss" in logs:
            world_size = ray.train.get_context().get_world_size()
            now = self._totals(self._feed.tally.audio_s * world_size)  # steps are shared out evenly: near enough here
            self._board.post.remote(
                Progress(
                    step=state.global_step,
                    max_steps=state.max_steps,
                    loss=logs["loss"],
                    learning_rate=logs["learning_rate"],
                    seconds=now["seconds"],
                    audio_s=now["audio_s"],
                    wait_s=now["wait_s"],
                    resumed_at=self._resumed_at,
                )
            )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the checkpoint that transformers wrote, once it is whole on every worker."""
        context = ray.train.get_context()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        # Ranks of a node share the folder. All of them have written their part of it once all tallies are here.
        tallies = _of_all_workers(self._feed.tally)
        totals = {"step": state.global_step, **self._totals(sum(tally.audio_s for tally in tallies))}
        if context.get_world_rank() == 0:
            faults = [*self._before.get("faults", []), *(fault for tally in tallies for fault in tally.faults)]
            once = list(dict.fromkeys(faults))  # each epoch meets them anew
            (folder / STATE).write_text(json.dumps({**totals, "faults": once}), encoding="utf-8")
        checkpoint = Checkpoint.from_directory(folder) if context.get_local_rank() == 0 else None
        ray.train.report(
            {**totals, "loss": _last_loss(state)},
            checkpoint=checkpoint,
            checkpoint_dir_name=f"step_{state.global_step:07d}",
            delete_local_checkpoint_after_upload=False,
        )

    def _totals(self, audio_s: float) -> dict[str, float]:
        """Return seconds, audio seconds and seconds of waiting, of this and all earlier attempts."""
        seconds = 0.0 if self._started is None else time.monotonic() - self._started
        parts = {"seconds": seconds, "audio_s": audio_s, "wait_s": self._feed.tally.wait_s}
        return {name: value + self._before.get(name, 0.0) for name, value in parts.items()}


def _of_all_workers(tally: Tally) -> list[Tally]:
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return [tally]
    tallies: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(tallies, tally)
    return tallies


def _last_loss(state: Any) -> float:
    return float(next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), float("nan")))


def earlier_totals(checkpoint: str | None) -> dict[str, Any]:
    """Return what the last checkpoint's run had counted by then; empty for a run that starts."""
    if checkpoint is None:
        return {}
    return dict(json.loads((Path(checkpoint) / STATE).read_text(encoding="utf-8")))
