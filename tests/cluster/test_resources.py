from __future__ import annotations

import os

import pytest

from cluster.resources import threads_each


@pytest.mark.parametrize(
    ("asked", "gpu", "count", "threads"), [(3, True, 9, 3), (0, True, 9, 4), (0, False, 3, 2), (0, False, 99, 1)]
)
def test_threads_as_asked_else_cores_shared_or_four_beside_a_gpu(
    monkeypatch: pytest.MonkeyPatch, asked: int, gpu: bool, count: int, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert threads_each(asked, gpu, count) == threads
