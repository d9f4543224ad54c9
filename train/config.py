"""Configuration of one training run. Ray's and transformers' own settings are derived from it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from asr.audio.features import FRAMES_PER_S
from asr.config import Renamed, Section
from asr.errors import UserError
from asr.language import code, require_token
from asr.models.head import InitialModel
from asr.models.regularisation import Regularisation
from asr.parsed import JsonObject
from asr.places import KeptPlace, ModelPlace
from asr.transcript import Task
from cluster.workers import Workers
from train.augmentation.augment import Augmentation
from train.data.config import DataConfig
from train.evaluation.schedule import EvaluationConfig
from train.examples import PreprocessConfig
from train.sampling.batching import BatchingConfig
from train.sampling.packing import Packing
from train.tracking.trackers import TrackingConfig
from train.trainer.ctc import CtcSettings
from train.trainer.strategy import LoraSettings, Precision, Strategy


class OptimConfig(Section):
    """The optimiser (AdamW) and its schedule."""

    learning_rate: float = Field(1e-3, gt=0.0)
    """Peak. About 1e-3 for LoRA, 1e-5 for a full fine-tune."""
    max_steps: int = Field(150, ge=1)
    """Optimiser steps of the whole run."""
    warmup_steps: int = Field(10, ge=0)
    """Steps over which the learning rate rises to its peak, before it falls to zero at the end."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """Curve by which the learning rate falls."""
    weight_decay: float = Field(0.0, ge=0.0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Gradients are clipped to this norm."""


class RunConfig(Section):
    """Location of a run's checkpoints and its artifact."""

    renamed: ClassVar = {"ledger": Renamed("data_log")}

    name: str = Field("whisper", pattern=r"^[\w.-]+$")
    """A run of the same name in the same folder goes on from its last checkpoint."""
    folder: KeptPlace = "runs"
    """Parent of the run's folder: a local one, or any address that pyarrow reads (s3://, gs:// ...)."""
    checkpoint_every_steps: int = Field(25, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(2, ge=1)
    """The newest are kept, and beside them the best weights by word error rate."""
    data_log: bool = False
    """Record the utterances that each step was trained on, in ``<run>/ledger/``."""


class TrainConfig(Section):
    """Everything about one fine-tune."""

    renamed: ClassVar = {"plan": Renamed("batching")}

    base: ModelPlace
    """The checkpoint to start from: a hub id, a local folder, or builtin:base."""
    head: Literal["ctc"] | None = None
    """``ctc`` puts a linear layer on the base's encoder, which spells what is heard; default: the base as it is."""
    language: str | None = None
    """Name or code of the spoken language, for utterances whose manifest row names none. With ``head: ctc`` it may be
    any; Whisper has tokens for about a hundred."""
    task: Task = "transcribe"
    """The decoder's task."""
    seed: int = Field(0, ge=0)
    """Random seed of order, margins, dropout and the adapters' first weights."""
    strategy: Strategy = "lora"
    """The weights that are trained."""
    parallelism: Literal["ddp", "zero1", "zero2", "zero3"] = "ddp"
    """State that is partitioned among the workers: nothing, or (DeepSpeed) optimiser states, gradients, weights."""
    offload: Literal["none", "cpu"] = "none"
    """Memory to which DeepSpeed moves state that the GPU has no room for."""
    deepspeed: JsonObject = Field(default_factory=dict)
    """Amendments to the DeepSpeed settings that are derived; ``train --dry-run`` prints the result."""
    precision: Precision = "fp32"
    """Precision of the arithmetic; bf16 halves memory on GPUs that have it, fp16 on those that do not."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more time."""
    compile: bool = False
    """Build the network's kernels with torch.compile, in the first steps; worth it on GPUs and long runs."""
    data: DataConfig
    batching: BatchingConfig = BatchingConfig()
    packing: Packing = Packing()
    augment: Augmentation = Augmentation()
    lora: LoraSettings = LoraSettings()
    ctc: CtcSettings = CtcSettings()
    optim: OptimConfig = OptimConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    run: RunConfig = RunConfig()
    workers: Workers = Workers()

    def preprocess(self, initial: InitialModel) -> PreprocessConfig:
        """Return the settings that turn an utterance into a network's inputs: ``base``, with its new head if any."""
        return PreprocessConfig(initial, self.language, self.task, self.augment, self.seed, self.data.max_damaged_share)

    @property
    def regularisation(self) -> Regularisation:
        """The parts that a network itself leaves out of each step; its inputs are masked by ``preprocess``."""
        spec = self.augment.spec
        return Regularisation(
            layerdrop=self.ctc.layerdrop,
            time_share=spec.time_share,
            stretch_s=spec.max_time_frames / FRAMES_PER_S,
            feature_share=spec.frequency_share,
            band_share=spec.band_share,
        )

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str | None) -> str | None:
        try:
            return code(language) if language else None
        except UserError as error:  # as a ValueError, so that pydantic reports it among the other mistakes
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _language_has_a_token(self) -> TrainConfig:
        if self.head is None and self.language:  # a new head spells any language
            try:
                require_token(self.language)
            except UserError as error:
                raise ValueError(f"language: {error}") from None
        return self

    @model_validator(mode="after")
    def _settings_go_together(self) -> TrainConfig:
        zero = self.parallelism != "ddp"
        refused = {
            f"offload=cpu needs parallelism=zero2 or zero3, not {self.parallelism}": (
                self.offload == "cpu" and self.parallelism not in ("zero2", "zero3")
            ),
            "deepspeed amends nothing with parallelism=ddp: use zero1, zero2 or zero3": (
                bool(self.deepspeed) and not zero
            ),
            f"workers.elastic needs parallelism=ddp: {self.parallelism} cannot change its number of workers": (
                self.workers.elastic is not None and zero
            ),
            f"ctc.layerdrop needs parallelism=ddp: {self.parallelism} waits for the gradients of all layers": (
                bool(self.ctc.layerdrop) and zero
            ),
            "strategy=qlora needs parallelism=ddp, zero1 or zero2: zero3 cannot share out 4-bit weights": (
                self.strategy == "qlora" and self.parallelism == "zero3"
            ),
            "precision=fp16 needs workers.gpu=true: on CPUs use fp32 or bf16": (
                self.precision == "fp16" and not self.workers.gpu
            ),
        }
        if wrong := [message for message, applies in refused.items() if applies]:
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _evaluations_are_at_checkpoints(self) -> TrainConfig:
        every, checkpoint = self.evaluation.every_steps, self.run.checkpoint_every_steps
        if every is not None and every % checkpoint:
            raise ValueError(
                f"evaluation.every_steps={every} is no multiple of run.checkpoint_every_steps={checkpoint}: "
                "what is scored has to be kept"
            )
        asked = [f"evaluation.{name}" for name in ("every_steps", "patience") if getattr(self.evaluation, name)]
        asked += ["data.retention"] if self.data.retention else []
        if asked and self.data.validation is None:
            raise ValueError(f"{', '.join(asked)}: nothing is scored without data.validation")
        return self

    @model_validator(mode="after")
    def _steps_divide(self) -> TrainConfig:
        size, workers = self.batching.micro_batches_per_step, self.workers
        if workers.elastic is None and size % workers.count:  # an elastic run fills up with idle micro-batches
            raise ValueError(
                f"batching.micro_batches_per_step={size} cannot be shared by "
                f"workers.count={workers.count}: use a multiple"
            )
        if size < workers.most:
            raise ValueError(
                f"batching.micro_batches_per_step={size} leaves some of {workers.most} workers without work"
            )
        if self.optim.warmup_steps >= self.optim.max_steps:
            raise ValueError(
                f"optim.warmup_steps={self.optim.warmup_steps} leaves nothing of optim.max_steps={self.optim.max_steps}"
            )
        return self
