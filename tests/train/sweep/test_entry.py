from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import train.sweep.trial
from tests.train.sweep.test_trials import trials
from train.sweep.entry import Bench, enter


@pytest.mark.medium
def test_what_all_trials_share_is_read_before_training_is_imported() -> None:
    heavy = {"torch", "transformers", "peft", "train.run.fit"}
    code = f"import sys, train.sweep.entry\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_trial_gets_its_number_and_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(train.sweep.trial, "run_trial", lambda drawn, bench: given.append((drawn, bench)))
    bench = Bench(tuple(trials("lora.rank=grid(1, 2)")), {})
    enter({"trial": 1}, bench)
    assert given == [({"trial": 1}, bench)]


@pytest.mark.medium
@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_only_for_qlora_is_there_bitsandbytes_and_the_imports_are_no_matter_for_the_collector(strategy: str) -> None:
    code = f"""
import gc, sys, types
from importlib.util import find_spec
from types import SimpleNamespace as Some
from train.sweep.entry import Bench, enter
stub = sys.modules["train.sweep.trial"] = types.ModuleType("train.sweep.trial")
stub.run_trial = lambda drawn, bench: print(find_spec("bitsandbytes") is not None, gc.get_freeze_count() > 0)
enter({{"trial": 0}}, Bench((Some(config=Some(strategy="{strategy}")),), {{}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{strategy == 'qlora'} True\n"
