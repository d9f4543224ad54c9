from __future__ import annotations

import torch
from transformers.modeling_outputs import Seq2SeqLMOutput

from asr.models.processor import IGNORED
from asr.models.whisper.loss import token_loss

VOCABULARY = 20


def test_no_token_no_loss_and_no_nan() -> None:
    logits = torch.randn(2, 3, VOCABULARY, requires_grad=True)
    labels = torch.full((2, 3), IGNORED)
    for count in (None, torch.tensor(0), torch.tensor(9)):
        loss = token_loss(Seq2SeqLMOutput(logits=logits), labels, count)
        assert loss.item() == 0.0
        loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_each_token_of_a_step_weighs_the_same_however_it_is_cut_into_micro_batches() -> None:
    logits, labels = torch.randn(3, 4, VOCABULARY), torch.randint(VOCABULARY, (3, 4))
    labels[0, 1:] = IGNORED
    count = (labels != IGNORED).sum()
    whole = token_loss(Seq2SeqLMOutput(logits=logits), labels)
    parts = [token_loss(Seq2SeqLMOutput(logits=logits[i : i + 1]), labels[i : i + 1], count) for i in range(3)]
    assert torch.allclose(whole, torch.stack(parts).sum())
