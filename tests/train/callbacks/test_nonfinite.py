"""A loss that is no number: where it is noticed, and what is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from asr.errors import UserError
from asr.models.processor import IGNORED
from asr.models.whisper.loss import token_loss
from train.callbacks.nonfinite import NonFiniteGuard
from train.dataloader.dataset import ConsumedBatch

LABELS = torch.tensor([[1, 2], [2, IGNORED], [0, 1]])


def sound(*consumed: ConsumedBatch, precision: str = "fp32", network: nn.Module | None = None) -> NonFiniteGuard:
    left = list(consumed)
    feed: Any = SimpleNamespace(trained=lambda: left.pop(0))
    made = NonFiniteGuard(feed, precision, token_loss)
    made.on_train_begin(None, None, None, model=network or nn.Linear(2, 2))
    made.on_step_begin(None, SimpleNamespace(global_step=36), None)
    return made


def outputs(*broken: int) -> Any:
    logits = torch.zeros(3, 2, 4)
    logits[list(broken)] = torch.nan
    return SimpleNamespace(logits=logits)


def test_a_loss_that_is_a_number_is_the_token_loss() -> None:
    made = sound(ConsumedBatch(0, ("a", "b", "c")))
    assert made(outputs(), LABELS, torch.tensor(9)) == token_loss(outputs(), LABELS, torch.tensor(9))


def test_step_and_utterance_are_named() -> None:
    made = sound(
        ConsumedBatch(0, ("x", "y", "z")), ConsumedBatch(0, ("a", "unusable", "b", "c"), frozenset({"unusable"}))
    )
    made(outputs(), LABELS)
    with pytest.raises(UserError, match=r"step 37: the loss is nan for b, 1 of 3 utterances in its micro-batch"):
        made(outputs(1), LABELS)


def test_all_of_a_micro_batch_are_named_where_none_is_better() -> None:
    ids = tuple(f"u{number}" for number in range(12))
    with pytest.raises(UserError, match=r"the loss is nan for all of a micro-batch: u0, .*, u9 and 2 more") as caught:
        sound(ConsumedBatch(0, ids), precision="fp16")(outputs(0, 1, 2), LABELS)
    assert caught.value.hint == "try precision=fp32 or bf16"


def test_weights_that_are_no_numbers_are_not_blamed_on_utterances() -> None:
    network = nn.Linear(2, 2)
    network.weight.data[0, 0] = torch.inf
    with pytest.raises(UserError, match=r"the weights are beyond all bounds since .* \(1, the first: weight\)"):
        sound(ConsumedBatch(0, ("a", "b", "c")), network=network)(outputs(0, 1, 2), LABELS)


def test_gradients_that_are_no_numbers_end_a_run_but_for_fp16_which_skips_the_step() -> None:
    state, logs = SimpleNamespace(global_step=37), {"loss": 1.0, "grad_norm": float("nan")}
    for precision in ("fp32", "fp16"):
        made = sound(ConsumedBatch(0, ("a",)), ConsumedBatch(0, ("b",)), precision=precision)
        for _ in range(2):
            made(outputs(), LABELS)
        made.on_log(None, state, None, {"loss": 1.0, "grad_norm": 2.0})
        if precision == "fp16":
            made.on_log(None, state, None, logs)
            continue
        with pytest.raises(UserError, match="step 37: the gradients are nan; its utterances: a, b"):
            made.on_log(None, state, None, logs)
