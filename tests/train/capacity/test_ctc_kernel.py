"""Steps of CTC networks without numbers, held against what autograd keeps of real ones."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from asr.errors import UserError
from asr.models.capacity import Adapters, BatchShape
from asr.models.family import family_of
from tests.asr.models.ctc import tiny
from tests.train.capacity.networks import MakeSetup, Saved, saved_bytes
from train.capacity.fake_step import FakeNetwork, _batch
from train.capacity.memory import memory
from train.capacity.setup import Setup
from train.capacity.speed import flops, launches_s
from train.trainer.adapter import adapt
from train.trainer.strategy import LoraSettings

ALL_LAYERS = Adapters(rank=4, dropout=0.05, target_modules=None)


def measured_bytes(folder: Path, setup: Setup) -> int:
    """The storages that autograd holds between both passes of a real step, each once, without the weights' own."""
    family = family_of(folder)
    lora = LoraSettings(rank=setup.adapters.rank, dropout=setup.adapters.dropout)
    network = adapt(family.untrained(folder, torch.float32), setup.strategy, lora).train()
    batch = _batch(folder, setup.batch)
    labels = batch.pop("labels") + 5
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    held: weakref.WeakSet[Saved] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> Saved:
        saved = Saved(tensor)
        held.add(saved)
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved.tensor):
        loss = family.loss(network)(network(**batch), labels)
    gc.collect()
    storages = {saved.tensor.untyped_storage().data_ptr(): saved.tensor.untyped_storage() for saved in list(held)}
    assert loss.requires_grad
    return sum(storage.nbytes() for pointer, storage in storages.items() if pointer not in own)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("wav2vec2-base-960h", "frozen_feature_encoder"),
        ("sew-tiny-100k", "lora"),
        ("parakeet-ctc-0.6b", "full"),
        ("whisper-tiny", "full"),
    ],
)
def test_it_saves_exactly_what_a_real_ctc_network_saves(
    name: str, strategy: str, make_setup: MakeSetup, tmp_path: Path
) -> None:
    folder = tiny.write(tmp_path, name)
    setup = make_setup(shape=FakeNetwork(folder), strategy=strategy, batch=BatchShape(2, 100, 10), adapters=ALL_LAYERS)
    assert saved_bytes(setup) == measured_bytes(folder, setup)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["wav2vec2-large-lv60", "w2v-bert-2.0"])
def test_networks_with_a_mask_save_little_less_than_it_says(name: str, make_setup: MakeSetup, tmp_path: Path) -> None:
    """Of real clips of one length transformers leaves the mask out; where they differ, it is there."""
    folder = tiny.write(tmp_path, name)
    setup = make_setup(shape=FakeNetwork(folder), strategy="full", batch=BatchShape(2, 100, 10))
    assert 1.0 <= saved_bytes(setup) / measured_bytes(folder, setup) < 1.06


@pytest.mark.medium
def test_every_figure_of_a_plan_is_told_of_a_ctc_network(make_setup: MakeSetup, tmp_path: Path) -> None:
    network = FakeNetwork(tiny.write(tmp_path, "parakeet-ctc-0.6b"))
    assert network.width == 16  # its encoder's
    for strategy in ("lora", "frozen_encoder"):
        setup = make_setup(shape=network, strategy=strategy, precision="bf16", gpu=True, adapters=ALL_LAYERS)
        assert memory(setup).peak > 0
        assert flops(setup).total > 0
        assert launches_s(setup) > 0


@pytest.mark.medium
def test_a_strategy_that_a_network_does_not_have_is_refused(make_setup: MakeSetup, tmp_path: Path) -> None:
    network = FakeNetwork(tiny.write(tmp_path, "w2v-bert-2.0"))
    with pytest.raises(UserError, match="strategy=frozen_feature_encoder"):
        memory(make_setup(shape=network, strategy="frozen_feature_encoder"))
