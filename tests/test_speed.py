"""The limit for a test that does not call itself slow, and which process runs which test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import speed

pytestmark = pytest.mark.slow  # processes of pytest

ROOT = Path(__file__).resolve().parent.parent
CONFTEST = """
import pytest
from tests import speed
from tests.speed import pytest_collection_modifyitems, pytest_runtest_call
speed.LIMIT_S = 0.2
speed._slowness = lambda: 1.0

@pytest.fixture(scope="session")
def ray_cluster():
    return None
"""
TESTS = """
import os, time
import pytest

def test_quick(): pass
def test_long_winded(): time.sleep(0.4)
@pytest.mark.slow
def test_slow(): time.sleep(0.4)
"""
SHARING = """
import os
import pytest

@pytest.mark.parametrize("number", range(3))
def test_in_the_process_of_the_ray(ray_cluster, number):
    with open(os.environ["SEEN"], "a") as seen:
        print(os.getpid(), file=seen)
"""


def run(folder: Path, *options: str, **variables: str) -> str:
    (folder / "conftest.py").write_text(CONFTEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    settings = ["-o", "markers=slow\nlong\nray\nweights", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", **variables}
    return subprocess.run(
        [*command, *settings], cwd=folder, env=environment, capture_output=True, text=True, check=False
    ).stdout


def test_a_test_over_the_limit_fails_unless_it_is_marked(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    printed = run(tmp_path)
    assert "1 failed, 2 passed" in printed
    assert "FAILED test_some.py::test_long_winded" in printed
    assert "took 0.4 s: make it quicker, or mark it as slow" in printed


def test_tests_that_share_a_ray_share_a_process(tmp_path: Path) -> None:
    """pytest 9.2 with pytest-xdist 3.8 let the groups go without a word (pytest-xdist#1386)."""
    for name in ("one", "other"):
        (tmp_path / f"test_{name}.py").write_text(SHARING)
    seen = tmp_path / "seen"
    assert "6 passed" in run(tmp_path, "--numprocesses=2", "--dist=loadgroup", SEEN=str(seen))
    assert len(seen.read_text().split()) == 6
    assert len(set(seen.read_text().split())) == 1


def test_a_limit_in_seconds_failed_tests_for_what_else_ran_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_counting_s", lambda: 2 * speed.COUNTING_S)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0 * (os.cpu_count() or 1), 0.0, 0.0))
    assert speed._slowness() == pytest.approx(6.0)
    monkeypatch.setattr(speed, "_counting_s", lambda: speed.COUNTING_S / 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert speed._slowness() == 1.0
