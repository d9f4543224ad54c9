"""One training run, described in one place. Ray's and transformers' own settings are derived from it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from asr.config import Section
from asr.errors import UserError
from asr.labels import Task
from asr.language import code
from cluster.workers import Workers
from train.adapter import LoraSettings, Strategy
from train.plan import PlanConfig


class DataConfig(Section):
    """Manifests as ``whisperfleet data prepare`` writes them."""

    train: Path
    """JSONL manifest of the training utterances, with durations."""
    max_faulty_share: float = Field(0.05, ge=0.0, le=1.0)
    """The run fails once more than this share of the utterances met so far could not be used."""


class OptimConfig(Section):
    """The optimiser (AdamW) and its schedule."""

    learning_rate: float = Field(1e-3, gt=0.0)
    """Peak. About 1e-3 for LoRA, 1e-5 for a full fine-tune."""
    max_steps: int = Field(150, ge=1)
    """Optimiser steps of the whole run."""
    warmup_steps: int = Field(10, ge=0)
    """Steps over which the learning rate rises to its peak, before it falls to zero at the end."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How it falls."""
    weight_decay: float = Field(0.0, ge=0.0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Gradients are clipped to this norm."""


class RunConfig(Section):
    """Where a run keeps its checkpoints and its artifact."""

    name: str = Field("whisper", pattern=r"^[\w.-]+$")
    """A run of the same name in the same folder goes on from its last checkpoint."""
    folder: Path = Path("runs")
    """Parent of the run's folder."""
    checkpoint_every_steps: int = Field(25, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(2, ge=1)
    """The newest are kept."""


class TrainConfig(Section):
    """Everything about one fine-tune."""

    base: str
    """The checkpoint to start from: a hub id, a local folder, or builtin:base."""
    language: str | None = None
    """Whisper's name or code of the spoken language, for utterances whose manifest row names none."""
    task: Task = "transcribe"
    """What the decoder is asked for."""
    seed: int = Field(0, ge=0)
    """Of order, margins, dropout and the adapters' first weights."""
    strategy: Strategy = "lora"
    """Which weights are trained."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the arithmetic; bf16 halves memory on GPUs that have it."""
    data: DataConfig
    plan: PlanConfig = PlanConfig()
    lora: LoraSettings = LoraSettings()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    workers: Workers = Workers()

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str | None) -> str | None:
        try:
            return code(language) if language else None
        except UserError as error:  # as a ValueError, so that pydantic reports it among the other mistakes
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _steps_divide(self) -> TrainConfig:
        size, workers = self.plan.micro_batches_per_step, self.workers.count
        if size % workers:
            raise ValueError(
                f"plan.micro_batches_per_step={size} cannot be shared by workers.count={workers}: use a multiple"
            )
        if self.optim.warmup_steps >= self.optim.max_steps:
            raise ValueError(
                f"optim.warmup_steps={self.optim.warmup_steps} leaves nothing of optim.max_steps={self.optim.max_steps}"
            )
        return self
