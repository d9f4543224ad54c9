"""Which settings of somebody's adapter are passed on to PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from asr.errors import UserError
from asr.models.adapter_config import FILE, check


def write(folder: Path, **changes: Any) -> Path:
    LoraConfig(r=4, target_modules=["q_proj", "v_proj"]).save_pretrained(folder)
    settings = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(settings | changes))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_dora": True, "lora_alpha": 64, "lora_dropout": 0.05, "use_rslora": True},
        {"rank_pattern": {"encoder.layers.0": 8}, "alpha_pattern": {}, "layers_to_transform": [1, 2]},
        {"auto_mapping": {"base_model_class": "AnyContextWhisper", "parent_library": "asr.models.whisper.network"}},
        {"auto_mapping": {"base_model_class": "AnyContextWhisper", "parent_library": "asr.whisper"}},
        {"base_model_name_or_path": "openai/whisper-base", "peft_version": "0.1", "megatron_core": "megatron.core"},
    ],
)
def test_what_training_writes_is_accepted(tmp_path: Path, changes: dict[str, Any]) -> None:
    check(write(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"megatron_config": {"x": 1}},
        {"megatron_core": "os"},
        {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}},
        {"peft_type": "PREFIX_TUNING"},
        {"target_modules": "(a+)+$"},
        {"target_modules": ["(a+)+$"]},
        {"rank_pattern": {"(a+)+$": 8}},
        {"modules_to_save": ["proj_out"]},
        {"init_lora_weights": "eva"},
        {"loftq_config": {"loftq_bits": 4}},
        {"what_peft_will_think_of": 1},
        {"r": "4"},
        {"r": 10**9},
        {"r": -1},
        {"rank_pattern": {"encoder.layers.0": 10**9}},
    ],
)
def test_what_asks_for_more_is_refused_by_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{FILE}: {next(iter(changes))} is "):
        check(write(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"x"'])
def test_what_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError) as caught:
        check(tmp_path)
    assert "\n" not in str(caught.value)
