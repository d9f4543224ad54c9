"""Stacks of equal layers, and what is left of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from tests.train.capacity.networks import SMALL, MakeSetup, whisper, write_folder
from train.capacity import fake_step
from train.capacity.fake_step import FakeNetwork
from train.capacity.folding import fold, layers_of

DEEP = replace(SMALL, encoder_layers=5, decoder_layers=4)


def test_three_of_each_stack_are_left() -> None:
    network = whisper(DEEP)
    copies = fold(network)
    assert (len(layers_of(network)), sorted(copies.values())) == (6, [2, 3])
    stacks = network.model.encoder.layers, network.model.decoder.layers
    assert set(copies) == {stack[1] for stack in stacks}
    again = sum((times - 1) * weight.numel() for layer, times in copies.items() for weight in layer.parameters())
    assert sum(weight.numel() for weight in network.parameters()) + again == DEEP.parameters


def test_few_layers_stay_as_they_are() -> None:
    network = whisper(SMALL)
    assert fold(network) == {}
    assert len(layers_of(network)) == 5


@pytest.mark.parametrize("what", ["setting", "weight"])
def test_a_stack_of_unequal_layers_stays_whole(what: str) -> None:
    network = whisper(DEEP)
    layer = network.model.encoder.layers[3]
    if what == "setting":
        layer.dropout = 0.5
    else:
        layer.fc1 = nn.Linear(SMALL.width, SMALL.hidden, bias=False)
    assert set(fold(network)) == {network.model.decoder.layers[1]}


@pytest.mark.medium
def test_a_folded_network_takes_what_the_whole_takes(
    make_setup: MakeSetup, random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpointing in autocast: there layers leave casts behind that autograd does not save."""
    folder = write_folder(DEEP, random_checkpoint, tmp_path / "deep")
    setup = make_setup(shape=FakeNetwork(folder), strategy="full", precision="bf16", checkpointing=True)
    folded = setup.shape.segments(setup)
    monkeypatch.setattr(fake_step, "fold", lambda network: {})
    fake_step._segments.cache_clear()
    whole = setup.shape.segments(setup)
    assert [one.name for one in folded] == [one.name for one in whole]
    for name in ("trained", "saved", "forward", "backward"):
        assert [getattr(one, name) for one in folded] == [getattr(one, name) for one in whole]
    for one, other in zip(folded, whole, strict=True):
        assert one.transient + one.cached == pytest.approx(other.transient + other.cached, rel=0.01)
    fake_step._segments.cache_clear()
