from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cluster import interpreter


def test_python_is_then_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    for _ in range(2):
        interpreter.prefer()
        assert shutil.which("python") == str(Path(sys.executable).parent / "python")
    assert os.environ["PATH"].split(os.pathsep)[1:] == [str(tmp_path), "/bin"]


def test_ray_finds_the_hook_by_its_name() -> None:
    ((name, hook),) = interpreter.VARIABLE.items()
    module, _, function = hook.rpartition(".")
    assert getattr(import_module(module), function) is interpreter.prefer
    assert "SETUP_HOOK" in name
