"""The section ``ctc`` of a training run's configuration: what only models with a CTC head take."""

from __future__ import annotations

from pydantic import Field

from asr.models.head import HeadSettings


class CtcSettings(HeadSettings):
    """Settings of a CTC model: how it spells, and how its head is trained."""

    head_learning_rate: float = Field(3.0, gt=0.0)
    """Learning rate of the head, as a multiple of ``optim.learning_rate``: its weights begin at nothing."""
    layerdrop: float = Field(0.0, ge=0.0, lt=1.0)
    """Probability of leaving out a layer in a training step, for networks that can."""
