from __future__ import annotations

import subprocess
import sys

import pytest

from asr.errors import UserError
from train.trainer.strategy import has_adapter, require


def test_qlora_needs_a_gpu_and_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    require("qlora", gpu=True)
    require("lora", gpu=False)
    with pytest.raises(UserError, match=r"strategy=qlora .*takes a GPU.*workers\.gpu=true"):
        require("qlora", gpu=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"bitsandbytes, which is missing \(pip install 'whisperfleet\[qlora\]'\)"):
        require("qlora", gpu=True)


def test_adapters_are_lora_dora_and_qlora() -> None:
    strategies = ("full", "frozen_encoder", "lora", "dora", "qlora")
    assert [name for name in strategies if has_adapter(name)] == ["lora", "dora", "qlora"]


@pytest.mark.medium
def test_a_configuration_is_read_without_peft_and_without_a_network() -> None:
    """Drivers and data tasks read it, and start seconds sooner."""
    heavy = {"peft", "bitsandbytes", "transformers.models.whisper.modeling_whisper"}
    code = f"import sys, train.config\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.medium
def test_only_qlora_pays_for_bitsandbytes() -> None:
    """It brings torch's compiler into each training worker, which has no use for it."""
    code = "from importlib.util import find_spec\nfrom train.trainer.strategy import leave_out_unless_quantised\n"
    for strategy in ("qlora", "lora"):
        code += f"leave_out_unless_quantised('{strategy}')\nprint(find_spec('bitsandbytes') is not None)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
