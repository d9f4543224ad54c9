"""Steps of `check` that run the network: decode one batch, and check the gradients of one training step."""

from __future__ import annotations

import math

import psutil
import torch

from asr.errors import UserError
from asr.models.family import best_device
from asr.printable import printable
from asr.transcript import DecodingRequest
from train.callbacks.gradient_flow import silent_weights
from train.capacity.shapes import read_shape
from train.checks.subject import CheckOutcome, Subject
from train.trainer.adapter import adapt
from train.trainer.strategy import CHECKPOINTING, has_adapter

_NEW_TOKENS = 32
_SHOWN = 3
_SHOWN_CHARACTERS = 200
_NO_CLIP = "no sampled clip has both sound and a label"


def decoding(subject: Subject) -> CheckOutcome:
    """The base turns sampled clips into text, in the audio context that it was trained for."""
    if outcome := _too_large(subject, copies=1):
        return outcome
    model, clips = subject.model, subject.shortest
    if not clips:
        return CheckOutcome("skipped", _NO_CLIP)
    if model.network.can_generate():
        model.network.generation_config.max_length = _NEW_TOKENS  # enough to see that it works
    features = [
        DecodingRequest(model.features(waveform), subject.language(row), subject.config.task) for row, waveform in clips
    ]
    transcripts = model.transcribe(features, model.context)
    first = printable(transcripts[0].text, _SHOWN_CHARACTERS)  # a new head spells a symbol at nearly every position
    return CheckOutcome("ok", f"{len(transcripts)} clips on {model.network.device}, the first: {first!r}")


def gradients(subject: Subject) -> CheckOutcome:
    """A step on real clips brings a finite loss, and a gradient to every weight that is to be trained."""
    config = subject.config
    if outcome := _too_large(subject, copies=1 if has_adapter(config.strategy) else 2):
        return outcome
    if not subject.shortest:
        return CheckOutcome("skipped", _NO_CLIP)
    network = adapt(subject.model.network, config.strategy, config.lora).train()
    if config.activation_checkpointing:
        network.activation_checkpointing_enable(CHECKPOINTING)
    device = next(network.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in subject.batch.items()}
    labels = batch.pop("labels")
    loss = subject.model.family.loss(subject.model.network)(network(**batch), labels)
    if not math.isfinite(loss.item()):
        raise UserError(f"the first loss is {loss.item()}", "look at the base: are its weights whole?")
    loss.backward()
    silent = silent_weights(network)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    if not trained or silent:
        raise UserError(
            f"no gradient reaches {len(silent)} of {len(trained)} trained weights: {', '.join(silent[:_SHOWN])}",
            "look at strategy, lora.target_modules and activation_checkpointing",
        )
    count = sum(weight.numel() for weight in trained)
    return CheckOutcome("ok", f"loss {loss.item():.3f}, {config.strategy} trains {count / 1e6:.1f} M weights")


def _too_large(subject: Subject, copies: int) -> CheckOutcome | None:
    """Return why a step is skipped where this machine, often a cluster's head, cannot hold weights and gradients."""
    needed, spare = copies * 4 * read_shape(subject.checkpoint.folder).parameters, spare_bytes()
    if needed < spare:
        return None
    return CheckOutcome(
        "skipped", f"it takes over {needed / 1e9:.1f} GB, and this machine has {spare / 1e9:.1f} GB to spare"
    )


def spare_bytes() -> int:
    """Return the memory that is left where ``best_device`` computes."""
    if best_device() == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
