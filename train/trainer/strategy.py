"""Strategy of a configuration: which weights are trained, in which arithmetic. Read without any network or PEFT."""

from __future__ import annotations

import importlib.util
from typing import Literal

from pydantic import Field

from asr.config import Section
from asr.errors import UserError
from asr.imports import leave_out
from asr.models.adapter_config import MOST_RANK
from asr.models.training import FrozenPart

Strategy = Literal["full", "frozen_feature_encoder", "frozen_encoder", "language_adapter", "lora", "dora", "qlora"]
Precision = Literal["fp32", "bf16", "fp16"]

CHECKPOINTING = {"use_reentrant": False}
"""How activations are computed again: else adapters in the encoder get no gradient."""


class LoraSettings(Section):
    """Adapters of the strategies lora (Hu et al., 2021), dora (Liu et al., 2024) and qlora (Dettmers et al., 2023)."""

    rank: int = Field(32, ge=1, le=MOST_RANK)
    """Rank of each update."""
    alpha: int = Field(64, ge=1)
    """Scale of the updates, relative to the rank."""
    dropout: float = Field(0.05, ge=0.0, lt=1.0)
    """Dropout before each adapter."""
    target_modules: tuple[str, ...] | None = None
    """Linear layers that get an adapter, by the last word of their names; default: all in the network's layers."""


FROZEN: dict[Strategy, FrozenPart] = {
    "full": "nothing",
    "frozen_feature_encoder": "feature_encoder",
    "frozen_encoder": "encoder",
    "language_adapter": "all_but_language",
}
"""The part of the network that a strategy without adapters leaves as it is."""


def has_adapter(strategy: Strategy) -> bool:
    """Return whether training ends in an adapter for the base model, rather than in a model of its own."""
    return strategy in ("lora", "dora", "qlora")


def leave_out_unless_quantised(strategy: Strategy) -> None:
    """Have PEFT, which this process is about to import, find no bitsandbytes where no weight is kept in 4 bits.

    It imports that wherever it is installed, and with it torch's compiler: up to a second, and 40 MB.
    """
    if strategy != "qlora":
        leave_out("bitsandbytes")


def require(strategy: Strategy, gpu: bool) -> None:
    """Raise UserError where a strategy cannot run with such workers, before any of them starts."""
    if strategy != "qlora":
        return
    if not gpu:
        raise UserError(
            "strategy=qlora computes with 4-bit weights, which takes a GPU, and workers.gpu is false",
            "set workers.gpu=true, or strategy=lora",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("strategy=qlora needs bitsandbytes, which is missing", "pip install 'whisperfleet[qlora]'")
