"""How the suite stays quick: tests that share something dear share a process, and a slow test says that it is one.

The hooks here are ``tests/conftest.py``'s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator

import pytest

from asr.imports import end_quickly, lasting_imports

LIMIT_S = 5.0
"""What a test may take that has none of ``MARKS``, where it has a core for itself."""

WAIT_S = 240.0
"""What a test waits for something that comes at once on an idle machine: a busy one once took over a minute."""

COUNTING_S = 0.25
"""What ``_counting_s`` takes on an idle core of an ordinary machine."""

MARKS = {"slow", "long", "ray", "weights"}
"""Of tests that may take longer. ``make test-fast`` leaves them out, and what is marked ``medium``."""

TRAINING = ("tests/benchmarks", "tests/e2e", "tests/train")
"""Half of what uses Ray, by its time."""

BY_FIXTURE = {
    "ray": ("ray_cluster", "running", "guarded"),
    "weights": ("tiny_en_name", "base_checkpoint", "english_model", "small_base"),
}
"""Marks that a test has by what it asks for. Whoever starts Ray or loads a checkpoint by itself says so by itself."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it asks for, and name the process that runs it: the one of its file, or of its group.

    All that use Ray are two groups, which begin. Tests of a group share one Ray, for which they often wait: the other
    group computes meanwhile.
    """
    for item in items:
        for mark, fixtures in BY_FIXTURE.items():
            if set(fixtures) & set(getattr(item, "fixturenames", ())):
                item.add_marker(mark)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave thousands of tests and modules out of the rounds of the garbage collector, which are most of this time."""
    end_quickly()
    with lasting_imports():
        return (yield)


def _group(item: pytest.Item) -> str:
    file = item.nodeid.partition("::")[0]
    if item.get_closest_marker("ray") is None:
        return file
    return "ray: training" if file.startswith(TRAINING) else "ray: all else"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that takes longer than it says."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    if took > LIMIT_S and not MARKS & {mark.name for mark in item.iter_markers()} and took > LIMIT_S * _slowness():
        pytest.fail(f"took {took:.1f} s: make it quicker, or mark it as slow", pytrace=False)


def _slowness() -> float:
    """Return how many times as long things take on this machine, at this time, as on an idle one.

    A limit in seconds would fail tests for what else runs: it is to hold whoever writes one, on an idle machine.
    """
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(1.0, crowd) * max(1.0, _counting_s() / COUNTING_S)


def _counting_s() -> float:
    """Return what a fixed piece of work takes now: longer on a slow machine, and on one with much else to do."""
    began = time.monotonic()
    for _ in range(10_000_000):
        pass
    return time.monotonic() - began
