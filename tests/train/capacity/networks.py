"""Real networks of a few thousand weights, adapted by our own code, beside the setup that describes them."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import WhisperConfig, WhisperFeatureExtractor

from asr.models.capacity import Adapters, BatchShape
from asr.models.whisper.loss import token_loss
from asr.models.whisper.network import AnyContextWhisper
from asr.models.whisper.shapes import NetworkShape
from train.capacity.setup import Setup
from train.trainer.adapter import adapt, base_dtype
from train.trainer.strategy import LoraSettings

SMALL = NetworkShape(mels=80, width=64, encoder_layers=2, decoder_layers=3, heads=2, hidden=256, vocabulary=1000)
ADAPTERS = Adapters(rank=8, dropout=0.05, target_modules=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))

MakeSetup = Callable[..., Setup]  # the fixture of the same name


def small_setup(**changes: Any) -> Setup:
    """A setup on the CPU, of the small shape unless said otherwise."""
    given = {"shape": SMALL, "batch": BatchShape(3, 101, 17), "adapters": ADAPTERS, "gpu": False}
    return Setup(**(given | changes))


def whisper(shape: NetworkShape, dtype: torch.dtype = torch.float32) -> AnyContextWhisper:
    """A network of that shape with random weights."""
    return AnyContextWhisper._from_config(WhisperConfig(**shape.config, use_cache=False), dtype=dtype)


def trainable(setup: Setup) -> Any:
    """The network that a setup describes, with what it trains requiring gradients."""
    network = whisper(setup.shape, base_dtype(setup.strategy, setup.precision))
    adapters = setup.adapters
    lora = LoraSettings(rank=adapters.rank, dropout=adapters.dropout, target_modules=adapters.target_modules)
    network = adapt(network, setup.strategy, lora).train()
    if setup.checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    return network


def inputs(setup: Setup) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Random features and tokens of the setup's batch, and the labels."""
    batch = setup.batch
    features = torch.randn(batch.clips, setup.shape.mels, 2 * batch.positions)
    tokens = torch.randint(1, setup.shape.vocabulary, (batch.clips, batch.tokens))
    return {"input_features": features, "decoder_input_ids": tokens}, tokens.clone()


def write_folder(shape: NetworkShape, checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """Write a checkpoint of that shape without weights; its tokenizer is another checkpoint's."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.iterdir():
        if file.suffix in (".json", ".txt"):
            shutil.copy(file, folder)
    WhisperConfig(**shape.config | changes).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=shape.mels).save_pretrained(folder)
    return folder


class Saved:
    """What a hook gives autograd in place of a tensor; it is gone when autograd lets go of it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def saved_bytes(setup: Setup) -> int:
    """All that autograd keeps between the forward and the backward pass, as the product reckons it."""
    return sum(segment.saved for segment in setup.shape.segments(setup))


def measured_bytes(setup: Setup) -> int:
    """The storages that autograd holds between forward and backward pass, each once, without the weights' own."""
    network = trainable(setup)
    batch, labels = inputs(setup)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    held: weakref.WeakSet[Saved] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> Saved:
        saved = Saved(tensor)
        held.add(saved)
        return saved

    casts = torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bf16")
    with saved_tensors_hooks(pack, lambda saved: saved.tensor), casts:
        loss = token_loss(network(**batch), labels)
    gc.collect()
    storages = {saved.tensor.untyped_storage().data_ptr(): saved.tensor.untyped_storage() for saved in list(held)}
    assert loss.requires_grad
    return sum(storage.nbytes() for pointer, storage in storages.items() if pointer not in own)
