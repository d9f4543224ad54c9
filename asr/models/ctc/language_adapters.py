"""Adapters of languages, as MMS has them: for each language a file of a few layers and a head, beside one network.

A language is called as in the files' names, by ISO 639-3 (``eng``), some with a script (``uzb-script_cyrillic``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from asr.config import suggestion
from asr.errors import UserError
from asr.models.checkpoint import Checkpoint, fetch_file
from asr.printable import printable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LANGUAGE = "language_adapter"
"""Key of our config.json: the language whose adapter and head are loaded over the network's own."""

_PREFIX, _SUFFIX = "adapter.", ".safetensors"


def adapter_languages(folder: Path) -> list[str]:
    """Return the languages that a folder has both an adapter and a vocabulary for, in alphabetical order."""
    files = {path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for path in folder.glob(f"{_PREFIX}*{_SUFFIX}")}
    try:
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(vocabulary, dict):
        return []
    nested = {name for name, symbols in vocabulary.items() if isinstance(symbols, dict)}
    return sorted(files & nested)


def require_language(base: Checkpoint, language: str) -> None:
    """Raise UserError where a checkpoint has no adapter of a language, fetched from the hub if it is there."""
    name = f"{_PREFIX}{language}{_SUFFIX}"
    if language not in adapter_languages(base.weights) and not (base.weights / name).is_file():
        fetch_file(base, name)
    if language not in (known := adapter_languages(base.weights)):
        near = suggestion(language, known) or "checkpoints of MMS have adapters: adapter.div.safetensors"
        raise UserError(
            f"ctc.target_language: {base.name} has no adapter and vocabulary of '{printable(language)}'", near
        )


def load_language(network: PreTrainedModel, folder: Path, language: str) -> None:
    """Give a network the adapter and the head of one of ``adapter_languages``.

    Raises ValueError where there is none of this language, or it does not fit.
    """
    if language not in adapter_languages(folder):
        raise ValueError(f"it has no adapter of '{language}'")
    network.config._name_or_path = str(folder)  # where transformers looks for it
    network.load_adapter(language, use_safetensors=True, local_files_only=True)


def adapter_parameters(network: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return by their names the weights that belong to a language: its adapter's and the head's.

    Empty where a network has no adapters of languages.
    """
    if getattr(network.config, "adapter_attn_dim", None) is None or not hasattr(network, "_get_adapters"):
        return {}
    found: dict[str, nn.Parameter] = network._get_adapters()
    return found
