"""The same few steps of tiny random networks under every parallelism, in plain processes or in Ray Train workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import save_file
from torch.utils.data import IterableDataset
from transformers import set_seed
from transformers.utils import logging

from asr.config import resolve
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.processor import IGNORED
from tests.asr.models.ctc import tiny
from tests.asr.tiny_whisper import random_whisper
from train.callbacks.gradient_flow import GradientWatch
from train.config import TrainConfig
from train.evaluation.evaluator import frozen
from train.trainer.adapter import adapt, load_base
from train.trainer.arguments import arguments
from train.trainer.trainer import MicroBatchTrainer

STEPS, MICRO_BATCHES = 4, 4
GATHERED = "gathered.safetensors"
WHISPER, CTC = "whisper", "wav2vec2-large-lv60"


@dataclass(frozen=True)
class Case:
    """One run; ``resume_at`` goes on from that checkpoint of the run of the same name without it."""

    parallelism: str
    strategy: str
    settings: tuple[str, ...] = ()
    resume_at: int = 0
    network: str = WHISPER

    @property
    def name(self) -> str:
        network = [] if self.network == WHISPER else [self.network]
        return "-".join([*network, self.parallelism, self.strategy, *self.settings])

    @property
    def config(self) -> TrainConfig:
        plain = ["base=none", "data.train=none.jsonl", "workers.cpus_each=1", "lora.rank=2", "lora.dropout=0"]
        plain += [f"optim.max_steps={STEPS}", "optim.warmup_steps=0", "optim.learning_rate=0.01"]
        plain += [f"batching.micro_batches_per_step={MICRO_BATCHES}", "run.checkpoint_every_steps=2"]
        plain += ["optim.max_grad_norm=0.3"]  # below what is met: every step is clipped
        chosen = [f"parallelism={self.parallelism}", f"strategy={self.strategy}", *self.settings]
        return resolve(TrainConfig, None, [*plain, *chosen]).value


@dataclass(frozen=True)
class Outcome:
    """What each step logged, and the folder of the last checkpoint, with all weights gathered beside it.

    ``apart`` is the greatest difference between the logits of the network and of the copy that an evaluation has.
    """

    losses: list[float]
    norms: list[float]
    apart: float
    folder: Path


def write_base(folder: Path) -> Path:
    """Write a checkpoint of a few random weights and a real vocabulary."""
    random_whisper().save_pretrained(folder)
    for path in find_checkpoint("builtin:tiny.en").folder.glob("*.json"):
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    for name in (CTC,):
        tiny.write(base_of(folder, name), name)
    return folder


def base_of(folder: Path, network: str) -> Path:
    """Return the folder of a network's checkpoint, beside that of Whisper's."""
    return folder if network == WHISPER else folder.parent / network


class Batches(IterableDataset):
    """This worker's micro-batches: of uneven sizes, lengths and numbers of tokens, and one without any."""

    def __init__(self, network: str, first_step: int, rank: int, world_size: int) -> None:
        random = torch.Generator().manual_seed(5)
        batch = self._batch if network == WHISPER else self._batch_of_waveforms
        every = [batch(number, random) for number in range(STEPS * MICRO_BATCHES)]
        self.batches = every[first_step * MICRO_BATCHES :][rank::world_size]

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter([dict(batch) for batch in self.batches])

    @staticmethod
    def _batch(number: int, random: torch.Generator) -> dict[str, torch.Tensor]:
        size, length, frames = 1 + number % 3, 4 + 3 * (number % 4), 40 + 20 * (number % 3)
        labels = torch.randint(100, 50000, (size, length), generator=random)
        inputs = labels.roll(1, 1)
        for clip in range(size):
            labels[clip, length - (clip + number) % length :] = IGNORED
        if number == 2:
            labels[:] = IGNORED
        features = torch.randn(size, 80, frames, generator=random)
        return {"input_features": features, "decoder_input_ids": inputs, "labels": labels}

    @staticmethod
    def _batch_of_waveforms(number: int, random: torch.Generator) -> dict[str, torch.Tensor]:
        size, length = 1 + number % 3, 2 + number % 4
        samples = torch.tensor([8000 + 1600 * ((clip + number) % 3) for clip in range(size)])
        labels = torch.randint(5, len(tiny.SYMBOLS), (size, length), generator=random)
        for clip in range(size):
            labels[clip, length - (clip + number) % length :] = IGNORED
        if number == 2:
            labels[:] = IGNORED
        mask = torch.arange(int(samples.max())) < samples[:, None]
        waveforms = torch.randn(mask.shape, generator=random) * mask
        return {"input_values": waveforms, "attention_mask": mask.int(), "labels": labels}


def run(case: Case, base: Path, folder: Path) -> Outcome:
    """Train one case in this process, one of the workers or the only one."""
    for state in (AcceleratorState, GradientState):
        state._reset_state(*([True] if state is AcceleratorState else []))  # else the last case's parallelism stays
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    logging.set_verbosity_error()
    set_seed(0)
    model = load_base(
        Checkpoint("tiny", base_of(base, case.network), "sha256:"), case.config.strategy, case.config.precision
    )
    output = folder / (case.name + ("-resumed" if case.resume_at else ""))
    args = arguments(case.config, output, world_size)
    args.save_total_limit = None
    network = adapt(model.network, case.config.strategy, case.config.lora, case.config.regularisation)
    trainer = MicroBatchTrainer(
        model=network,
        args=args,
        train_dataset=Batches(case.network, case.resume_at, rank, world_size),
        compute_loss_func=model.family.loss(model.network),
        callbacks=[GradientWatch()],
    )
    resume = folder / case.name / f"checkpoint-{case.resume_at}" if case.resume_at else None
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    last = output / f"checkpoint-{STEPS}"
    apart = _apart(network, Batches(case.network, 0, 0, 1).batches[0])
    gathered = _gathered(network, case.parallelism == "zero3")
    if rank == 0:
        save_file(gathered, last / GATHERED)
    logs = [log for log in trainer.state.log_history[case.resume_at :] if "loss" in log]
    return Outcome([log["loss"] for log in logs], [float(log["grad_norm"]) for log in logs], apart, last)


def _apart(network: torch.nn.Module, batch: dict[str, torch.Tensor]) -> float:
    dtype = next(network.parameters()).dtype
    inputs = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in batch.items()
        if name != "labels"
    }
    with torch.no_grad(), frozen(network) as copy:
        return float((network(**inputs).logits - copy(**inputs).logits).abs().max())


def _gathered(network: torch.nn.Module, partitioned: bool) -> dict[str, torch.Tensor]:
    weights = dict(network.named_parameters())
    if not partitioned:
        return {name: weight.detach().clone() for name, weight in weights.items()}
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(weights.values())):
        return {name: weight.detach().clone() for name, weight in weights.items()}


def run_all(loop_config: dict[str, Any]) -> dict[Case, Outcome]:
    """Train all cases, one after the other: what each Ray Train worker runs."""
    torch.set_num_threads(1)
    cases: list[Case] = loop_config["cases"]
    return {case: run(case, loop_config["base"], loop_config["folder"]) for case in cases}
