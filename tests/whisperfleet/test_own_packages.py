from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.litter import litter
from whisperfleet.own_packages import NAMES, ROOT


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script from a folder with modules of these names."""
    (litter(folder) / "mine.py").write_text(code)
    return subprocess.run([sys.executable, "mine.py"], cwd=folder, capture_output=True, text=True, check=False)


def test_they_are_found_before_a_user_s_files(tmp_path: Path) -> None:
    done = run(f"import whisperfleet\nfor name in {NAMES}:\n    print(__import__(name).__file__)", tmp_path)
    assert [Path(line).parent for line in done.stdout.splitlines()] == [ROOT / name for name in NAMES], done.stderr


def test_a_module_that_was_imported_before_under_such_a_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = run(
        "import sys, types\nsys.modules['train'] = types.ModuleType('train')\n"
        "sys.modules['train'].__file__ = 'train.py'\nimport whisperfleet",
        tmp_path / "mine",
    )
    assert "ImportError: whisperfleet has a package of the name 'train', and train.py was imported" in done.stderr


@pytest.mark.medium
def test_the_rest_of_the_working_directory_is_found_as_ever(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("WHOSE = 'mine'")
    assert run("import whisperfleet, helpers\nprint(helpers.WHOSE)", tmp_path).stdout == "mine\n"
