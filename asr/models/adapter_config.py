"""The settings of a PEFT adapter, as its ``adapter_config.json`` has them: only those that add to a layer's weights.

Others make PEFT import modules, change the base's own weights, or match names with anybody's regular expressions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from asr.errors import UserError

FILE = "adapter_config.json"
MOST_RANK = 4096
"""Of an update: more than the width of any network here, and PEFT makes matrices of it before it reads the weights."""

_NAME = re.compile(r"[\w.]{1,200}")
# Where the base's class lies, as PEFT writes it down: here, here in the version before, and in transformers.
_LIBRARIES = (None, "asr.models.whisper.network", "asr.whisper", "asr.models.ctc.whisper_ctc")
_TRANSFORMERS = re.compile(r"transformers\.models\.(\w{1,50})\.modeling_\1")
_HEADS = ("lm_head", "ctc_head")  # trained whole, beside a new vocabulary


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_rank(value: object) -> bool:
    return _is_number(value) and 1 <= value <= MOST_RANK  # type: ignore[operator]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_name, value))


def _is_pattern(value: object) -> bool:
    return isinstance(value, dict) and all(_is_name(name) and _is_number(count) for name, count in value.items())


def _is_from_a_known_library(value: object) -> bool:
    library = value.get("parent_library") if isinstance(value, dict) else ""
    return library in _LIBRARIES or (isinstance(library, str) and _TRANSFORMERS.fullmatch(library) is not None)


_MAY_BE: Mapping[str, Callable[[object], bool]] = {
    "alpha_pattern": _is_pattern,
    "auto_mapping": _is_from_a_known_library,
    "base_model_name_or_path": lambda value: isinstance(value, str),  # which base it is, the card says
    "exclude_modules": _are_names,
    "inference_mode": lambda value: isinstance(value, bool),
    "init_lora_weights": lambda value: value in (True, False, "gaussian"),
    "layers_pattern": lambda value: _is_name(value) or _are_names(value),
    "layers_to_transform": lambda value: _is_number(value) or isinstance(value, list),
    "lora_alpha": _is_number,
    "lora_dropout": _is_number,
    "modules_to_save": lambda value: isinstance(value, list) and all(name in _HEADS for name in value),
    "peft_type": lambda value: value == "LORA",
    "peft_version": lambda value: isinstance(value, str),
    "r": _is_rank,
    "rank_pattern": lambda value: _is_pattern(value) and all(map(_is_rank, value.values())),  # type: ignore[attr-defined]
    "revision": lambda value: isinstance(value, str),
    "target_modules": _are_names,
    "use_dora": lambda value: isinstance(value, bool),
    "use_rslora": lambda value: isinstance(value, bool),
}


def check(folder: Path) -> None:
    """Raise UserError where an adapter asks for more than LoRA adds, or its settings cannot be read."""
    from peft import LoraConfig

    path = folder / FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        usual = json.loads(json.dumps(LoraConfig().to_dict(), default=str))
        asked = {name: value for name, value in settings.items() if value is not None and value != usual.get(name)}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for name, value in asked.items():
        if name not in _MAY_BE or not _MAY_BE[name](value):
            shown = json.dumps(value)[:100]
            raise UserError(f"{path}: {name} is {shown}: no setting of an adapter that is trained here")
