"""What is noted of a step on real tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asr.models.whisper.loss import token_loss
from tests.train.capacity.networks import MakeSetup, inputs, measured_bytes, trainable
from train.capacity.folding import layers_of
from train.capacity.step_watch import StepWatch


def watched(network: nn.Module, batch: dict[str, torch.Tensor], labels: torch.Tensor) -> StepWatch:
    watch = StepWatch(network, layers_of(network), {})
    with watch.watched():
        given = {name: one.clone() for name, one in batch.items()}
        watch.backward(token_loss(network(**given), labels))
    return watch


@pytest.mark.medium
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_real_step_saves_what_the_hooks_see(make_setup: MakeSetup, checkpointing: bool) -> None:
    setup = make_setup(strategy="full", checkpointing=checkpointing)
    found = watched(trainable(setup), *inputs(setup)).segments()
    assert sum(one.saved for one in found) == measured_bytes(setup)
    layers = ["WhisperEncoderLayer"] * 2 + ["between layers"] + ["WhisperDecoderLayer"] * 3
    assert [one.name for one in found] == ["front", *layers, "between layers"]


def test_each_weight_is_trained_in_one_stretch(make_setup: MakeSetup) -> None:
    setup = make_setup(strategy="full")
    network = trainable(setup)
    found = watched(network, *inputs(setup)).segments()
    assert sum(one.trained for one in found) == setup.shape.trained_parameters(setup)
    assert all(weight.grad is not None for weight in network.parameters() if weight.requires_grad)
    assert found[0].trained == setup.shape.stem_parameters


def test_the_peak_of_a_stretch_is_above_what_is_saved() -> None:
    """A weight's gradient of 4 MiB, and a hundred numbers of activations."""
    network = nn.Linear(1024, 1024, bias=False)
    watch = StepWatch(network, [], {})
    with watch.watched():
        watch.backward(network(torch.ones(1, 1024)).sum())
    (found,) = watch.segments()
    assert found.saved == 4096  # what is multiplied
    assert 2**22 <= found.transient <= 2**22 + 2**14
    assert (found.forward, found.backward) == (2 * 2**20, 2 * 2**20)


def test_hooks_are_taken_off(make_setup: MakeSetup) -> None:
    setup = make_setup(strategy="full")
    network = trainable(setup)
    watched(network, *inputs(setup))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers_of(network))
