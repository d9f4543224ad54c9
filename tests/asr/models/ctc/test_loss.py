from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from asr.errors import UserError
from asr.models.ctc.loss import PATIENCE_STEPS, CtcLoss

BLANK = 2
LABELS = torch.tensor([[0, 0, 1], [1, -100, -100]])


def outputs(seed: int = 0, clips: int = 2) -> CausalLMOutput:
    return CausalLMOutput(
        logits=torch.randn(clips, 9, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    )


def test_the_loss_is_torchs_sum_over_clips_for_each_symbol_of_the_step() -> None:
    made = outputs()
    logprobs = made.logits.log_softmax(-1).transpose(0, 1)
    whole = nn.functional.ctc_loss(
        logprobs, LABELS.clamp(min=0), torch.tensor([9, 9]), torch.tensor([3, 1]), blank=BLANK, reduction="sum"
    )
    assert CtcLoss(BLANK)(made, LABELS).item() == pytest.approx(whole.item() / 4, rel=1e-5)
    assert CtcLoss(BLANK)(made, LABELS, torch.tensor(8)).item() == pytest.approx(whole.item() / 8, rel=1e-5)


def test_micro_batches_of_a_step_add_up_to_the_loss_of_all_their_clips() -> None:
    made, items = outputs(), torch.tensor(4)
    parts = [CtcLoss(BLANK)(CausalLMOutput(logits=made.logits[[i]]), LABELS[[i]], items) for i in range(2)]
    assert sum(part.item() for part in parts) == pytest.approx(CtcLoss(BLANK)(made, LABELS, items).item(), rel=1e-5)


def test_an_idle_micro_batch_has_no_loss_and_no_gradient() -> None:
    made = outputs(clips=1)
    loss = CtcLoss(BLANK)(made, torch.tensor([[-100, -100]]))
    loss.backward()
    assert loss.item() == 0.0
    assert not made.logits.grad.any()


def test_a_transcript_that_does_not_fit_is_not_hidden() -> None:
    assert CtcLoss(BLANK)(outputs(clips=1), torch.zeros(1, 6, dtype=torch.int64)).isinf()  # five blanks between them


def test_half_precision_is_summed_in_float32() -> None:
    made = outputs()
    half = CausalLMOutput(logits=made.logits.bfloat16())
    loss = CtcLoss(BLANK)(half, LABELS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(CtcLoss(BLANK)(made, LABELS).item(), rel=0.02)


def said(loss: CtcLoss, symbol: int, share: float = 1.0) -> None:
    logits = torch.zeros(2, 100, 4)
    logits[:, :, BLANK] = 5.0
    logits[:, : round(100 * share), symbol] = 9.0
    loss(CausalLMOutput(logits=logits), LABELS)


def test_the_share_of_blanks_is_measured_since_the_last_call() -> None:
    loss = CtcLoss(BLANK)
    assert loss.measures() == {}
    said(loss, symbol=1, share=0.25)
    assert loss.measures() == {"blank_share": pytest.approx(0.75)}
    said(loss, symbol=BLANK)
    assert loss.measures() == {"blank_share": 1.0}


def test_a_run_that_is_all_blank_long_after_its_warm_up_ends_with_what_usually_helps() -> None:
    loss = CtcLoss(BLANK)
    said(loss, symbol=BLANK)
    loss.measures()
    assert loss.fault(PATIENCE_STEPS - 1) is None
    fault = loss.fault(PATIENCE_STEPS)
    assert isinstance(fault, UserError)
    assert "100.0% of all positions are blank" in fault.message
    assert "head_learning_rate" in fault.hint


def test_a_run_with_few_words_in_long_silence_is_not_in_vain() -> None:
    loss = CtcLoss(BLANK)
    said(loss, symbol=1, share=0.02)  # four positions, as many as the transcripts have symbols
    loss.measures()
    assert loss.fault(10 * PATIENCE_STEPS) is None
