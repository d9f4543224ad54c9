"""Loading of CTC networks: any that transformers' AutoModelForCTC knows, and Whisper's encoder with a head.

A new head may be put on a base: ``folder`` then says what the network is, and the weights lie in another folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AutoConfig
from transformers.integrations import deepspeed
from transformers.utils import logging

from asr.errors import one_line
from asr.models.ctc.language_adapters import LANGUAGE, load_language
from asr.models.ctc.layers import head_name
from asr.models.ctc.positions import blank_padding, network_class
from asr.models.ctc.regularisation import drop_layers

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

_SEED = 1  # of what is new: every worker of a training draws the same
_SPREAD = 0.02
_BLANK_BIAS = -1.0
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "d_model", "encoder_layers")
_LARGEST = 1_000_000
_MASK = "masked_spec_embed"  # used in training alone, and missing in checkpoints that were published


def load(
    folder: Path,
    weights: Path,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    quantization: BitsAndBytesConfig | None = None,
) -> PreTrainedModel:
    """Load the network that ``folder``'s config.json describes, with the safetensors in ``weights``, for inference.

    Where these are two folders, the head is new, and always the same one is drawn. Raises ValueError where weights are
    missing or have another shape, OSError where there are none at all. ``quantization`` is a transformers quantization
    config: linear layers are then made on ``device`` as it says.
    """
    config = read_config(folder)
    with _silence():
        network, found = network_class(config).from_pretrained(
            weights,
            config=config,
            dtype=dtype or torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            quantization_config=quantization,
            device_map={"": device} if quantization else None,
        )
    new = {name for name in found["missing_keys"] if name.endswith(_MASK)}
    if folder.resolve() != weights.resolve():
        head = head_name(network)
        new |= {name for name, _ in network.named_parameters() if name.split(".")[0] == head}
        new |= {name for name, *both in found["mismatched_keys"] if _differ_in_symbols(both, config.vocab_size)}
    _require(found["missing_keys"], found["mismatched_keys"], new)
    _draw(network, new)
    if folder.resolve() != weights.resolve() and (language := getattr(config, LANGUAGE, None)):
        load_language(network, weights, language)
    return _finished(network.to(device))


def untrained(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return a network as a folder's config.json has it, with weights as they are drawn. Raises ValueError for none.

    It masks no position at random: which ones those are hangs on the lengths of clips, which are numbers.
    """
    config = read_config(folder)
    config.apply_spec_augment = False
    return _finished(network_class(config)._from_config(config, dtype=dtype))


def twin(network: PreTrainedModel) -> PreTrainedModel:
    """Return another network of the same config, with weights as they are drawn.

    They are whole even where transformers knows that DeepSpeed shares out those of the network that is trained.
    """
    with _unshared():
        return _finished(network_class(network.config)(network.config))


def read_config(folder: Path) -> PreTrainedConfig:
    """Return a folder's config, with no layer dropped in training: those that are have no gradient in that step.

    Raises ValueError where there is none, or it is not one for CTC.
    """
    if not (folder / "config.json").is_file():  # transformers would ask the hub
        raise ValueError("it has no config.json")
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except OSError:
        raise
    except Exception as error:  # of a damaged one: transformers' own types, and whatever its arithmetic ends in
        raise ValueError(f"its config.json is damaged: {one_line(error)}") from error
    network_class(config)
    _require_sizes(config)
    if not hasattr(config, "mask_feature_min_masks"):  # transformers 5.23 reads it of WavLM, whose config lacks it
        config.mask_feature_min_masks = 0
    drop_layers(config, 0.0)
    return config


def _require_sizes(config: PreTrainedConfig) -> None:
    """Raise ValueError for sizes that no network has: building one would take for ever, or fail somewhere inside."""
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        for name in _SIZES:
            size = getattr(part, name, 1)
            if size is not None and not 0 < size <= _LARGEST:
                raise ValueError(f"its config.json says {name}={size}")
    if not isinstance(config.vocab_size, int) or not 0 <= (config.pad_token_id or 0) < config.vocab_size:
        raise ValueError(f"its config.json says vocab_size={config.vocab_size}, pad_token_id={config.pad_token_id}")


def _differ_in_symbols(shapes: Sequence[Sequence[int]], symbols: int) -> bool:
    """Return whether two shapes, of which the second is wanted, are the same but for the number of symbols."""
    here, wanted = shapes
    return len(here) == len(wanted) and all(a == b or b == symbols for a, b in zip(here, wanted, strict=True))


def _require(
    missing: Iterable[str], misfits: Iterable[tuple[str, Sequence[int], Sequence[int]]], new: Collection[str]
) -> None:
    """Raise ValueError where transformers would go on with random values."""
    for name in sorted(missing):
        if name not in new:
            raise ValueError(f"it has no weights named {name}")
    for name, here, wanted in sorted((name, tuple(here), tuple(wanted)) for name, here, wanted in misfits):
        if name not in new:
            raise ValueError(f"its weights named {name} are {here}, not {wanted}")


def _draw(network: PreTrainedModel, new: Collection[str]) -> None:
    """Give weights that no checkpoint has the same values in every process."""
    generator, config = torch.Generator().manual_seed(_SEED), network.config
    for name, parameter in sorted(network.named_parameters(remove_duplicate=False)):
        if name not in new:
            continue
        if name.endswith("bias"):
            value = torch.zeros(parameter.shape)
            if len(value) == config.vocab_size:
                value[config.pad_token_id] = _BLANK_BIAS
        else:
            value = _SPREAD * torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(value)


def _finished(network: PreTrainedModel) -> PreTrainedModel:
    """Return a network ready to decode, whose padding is blank, and which answers what PEFT asks of it.

    Its class keeps its name, which is saved in config.json.
    """
    kind = type(network)
    # PEFT 0.21 asks by a name that transformers 5.23 has deprecated.
    answers: dict[str, object] = {"is_gradient_checkpointing": property(_is_checkpointing)}
    if network._tied_weights_keys:  # PEFT asks whether embeddings are; Granite's head is tied, to another layer
        answers["get_input_embeddings"] = _first_layer
    network.__class__ = type(kind.__name__, (kind,), answers | {"__module__": kind.__module__})
    blank_padding(network)
    return network.eval()


def _is_checkpointing(network: PreTrainedModel) -> bool:
    return bool(network.is_activation_checkpointing)


def _first_layer(network: PreTrainedModel) -> nn.Module:
    """Return the layer that features enter."""
    first, _ = next(iter(network.named_parameters()))
    layer: nn.Module = network.get_submodule(first.rpartition(".")[0])
    return layer


@contextmanager
def _unshared() -> Iterator[None]:
    """Keep from networks that are built what transformers knows of ZeRO-3: some look for notes on their weights."""
    settings = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = settings


@contextmanager
def _silence() -> Iterator[None]:
    """Keep from users a bar of tensors, and transformers' table of weights that are new or not used."""
    before = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
