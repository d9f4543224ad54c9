from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from asr.errors import UserError
from asr.models.whisper.loss import token_loss
from asr.models.whisper.network import AnyContextWhisper
from tests.train.trainer.test_trainer import clips, config, tiny_network
from train.callbacks.gradient_flow import GradientWatch, silent_weights, steps_to_meet_all, trained_weights
from train.trainer.adapter import adapt
from train.trainer.arguments import arguments
from train.trainer.strategy import LoraSettings
from train.trainer.trainer import MicroBatchTrainer

SETTINGS = LoraSettings(rank=2, dropout=0.0)


class Deaf(AnyContextWhisper):
    """Whose decoder gets the encoder's states without their gradients, as behind reentrant checkpoints."""

    def __init__(self, like: AnyContextWhisper) -> None:
        super().__init__(like.config)
        self.model.encoder.register_forward_hook(self._cut)

    @staticmethod
    def _cut(module: nn.Module, inputs: object, output: object) -> object:
        output.last_hidden_state = output.last_hidden_state.detach()
        return output


def backward(network: nn.Module) -> nn.Module:
    batch = clips(3)
    labels = batch.pop("labels")
    token_loss(network.train()(**batch), labels).backward()
    return network


def test_what_is_trained_but_not_yet_lora_a() -> None:
    network = adapt(tiny_network(), "lora", SETTINGS)
    names = trained_weights(network)
    assert names
    assert all(".lora_B." in name for name in names)
    assert len(names) == sum(weight.requires_grad for weight in network.parameters()) / 2


@pytest.mark.parametrize("strategy", ["full", "frozen_encoder", "lora", "dora"])
def test_nothing_is_silent_after_one_backward_pass(strategy: str) -> None:
    network = adapt(tiny_network(), strategy, SETTINGS)
    assert len(silent_weights(network)) == len(trained_weights(network)), "nothing was computed yet"
    assert silent_weights(backward(network)) == []


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_an_encoder_that_is_cut_off_is_named(strategy: str) -> None:
    network = backward(adapt(Deaf(tiny_network()), strategy, SETTINGS))
    silent = silent_weights(network)
    assert silent
    assert silent == [name for name in trained_weights(network) if ".encoder.l" in name or ".encoder.conv" in name]


class Count(TrainerCallback):
    steps = 0

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.steps += 1


def train(network: nn.Module, folder: Path, batches: list[dict[str, torch.Tensor]], *settings: str) -> Count:
    count = Count()
    asked = [f"optim.max_steps={len(batches)}", "lora.dropout=0", *settings]
    trainer = MicroBatchTrainer(
        model=network,
        args=arguments(config(*asked), folder, 1),
        train_dataset=[dict(batch) for batch in batches],
        compute_loss_func=token_loss,
        callbacks=[GradientWatch(), count],
    )
    trainer.train()
    return count


def test_training_stops_at_the_first_step_and_says_which_weights(tmp_path: Path) -> None:
    network = adapt(Deaf(tiny_network()), "lora", SETTINGS)
    with pytest.raises(UserError, match=r"no gradient reached 6 of 16 trained weights: .*encoder.*lora_B.* \.\.\."):
        train(network, tmp_path, [clips(2)] * 2)


@pytest.mark.medium
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_activation_checkpointing_reaches_every_weight(strategy: str, tmp_path: Path) -> None:
    """peft pull request 617: behind reentrant checkpoints the encoder's adapters would stay what they were."""
    network = adapt(tiny_network(), strategy, SETTINGS)
    assert train(network, tmp_path, [clips(2)] * 2, "activation_checkpointing=true").steps == 2
    assert network.is_activation_checkpointing


@pytest.mark.medium
def test_a_step_without_tokens_is_not_judged_and_the_hooks_are_gone_afterwards(tmp_path: Path) -> None:
    network = adapt(tiny_network(), "lora", SETTINGS)
    idle = clips(2)
    idle["labels"][:] = -100
    assert train(network, tmp_path, [idle, clips(2), clips(2)]).steps == 3
    assert not any(weight._backward_hooks for weight in network.parameters())


def test_all_micro_batches_of_a_step_count_together() -> None:
    """Each weight may have got its gradient in another micro-batch."""
    network = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
    watch, args = GradientWatch(), SimpleNamespace(device="cpu")
    watch.on_train_begin(args, None, None, model=network)
    for name in ("a", "b"):
        network[name](torch.ones(1, 1)).sum().backward()
    watch.on_pre_optimizer_step(args, None, None)
    watch.on_train_begin(args, None, None, model=network)
    network["a"](torch.ones(1, 1)).sum().backward()
    with pytest.raises(UserError, match=r"no gradient reached 1 of 2 trained weights: b\.weight$|: b\.weight \("):
        watch.on_pre_optimizer_step(args, None, None)


def test_layers_that_a_step_left_out_may_come_in_another() -> None:
    network = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
    args = SimpleNamespace(device="cpu")
    for heard in (("a", "a", "b"), ("a", "a", "a")):
        watch = GradientWatch(steps=3)
        watch.on_train_begin(args, None, None, model=network)
        for name in heard[:2]:
            network[name](torch.ones(1, 1)).sum().backward()
            watch.on_pre_optimizer_step(args, None, None)
        network[heard[2]](torch.ones(1, 1)).sum().backward()
        if heard[2] == "b":
            watch.on_pre_optimizer_step(args, None, None)
            continue
        with pytest.raises(UserError, match=r"no gradient reached 1 of 2 trained weights: b\.weight"):
            watch.on_pre_optimizer_step(args, None, None)


def test_a_layer_is_met_almost_surely_after_some_steps() -> None:
    assert [steps_to_meet_all(probability) for probability in (0.0, 0.1, 0.5)] == [1, 9, 30]
