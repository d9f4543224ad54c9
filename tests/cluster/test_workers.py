from __future__ import annotations

import pytest
from pydantic import ValidationError

from cluster.workers import Elastic, Workers


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)


@pytest.mark.parametrize(
    ("workers", "threads"),
    [
        (Workers(), 8),
        (Workers(count=3), 2),
        (Workers(count=20), 1),
        (Workers(cpus_each=5), 5),
        (Workers(gpu=True), 4),
        (Workers(gpu=True, count=4, cpus_each=2), 2),
    ],
)
def test_threads_of_a_worker(workers: Workers, threads: int) -> None:
    assert workers.threads == threads


def test_elastic_workers_share_the_cores_as_at_the_most() -> None:
    assert Workers(elastic=Elastic(min=1, max=4)).threads == 2  # of 8 cores


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"cpus_each": -1},
        {"max_failures": -1},
        {"gpus": 1},
        {"elastic": {"min": 3, "max": 2}},
        {"elastic": {"min": 0, "max": 2}},
        {"elastic": {"min": 1}},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Workers.model_validate(wrong)
