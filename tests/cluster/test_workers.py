from __future__ import annotations

import pytest
from pydantic import ValidationError

from asr.errors import UserError
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
    scaling = workers.scaling_config()
    assert (scaling.num_workers, scaling.use_gpu) == (workers.count, workers.gpu)
    assert scaling.resources_per_worker == {"CPU": threads} | ({"GPU": 1} if workers.gpu else {})


def test_elastic_workers_ask_for_a_range_and_need_its_lower_end(ray_cluster: None) -> None:
    workers = Workers(elastic=Elastic(min=1, max=1000), cpus_each=1)
    assert workers.scaling_config().num_workers == (1, 1000)
    assert (workers.least, workers.most) == (1, 1000)
    workers.require()
    with pytest.raises(UserError, match=r"training needs 900 CPUs, .*lower workers\.elastic\.min"):
        Workers(elastic=Elastic(min=900, max=1000), cpus_each=1).require()
    assert Workers(elastic=Elastic(min=1, max=4)).threads == 2  # of 8 cores, at the most workers there may be


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


def test_more_workers_than_the_cluster_holds_are_refused_at_once(ray_cluster: None) -> None:
    with pytest.raises(UserError, match=r"training needs 4000 CPUs, the cluster has .*workers\.count"):
        Workers(count=1000, cpus_each=4).require()
    with pytest.raises(UserError, match=r"training needs 2 GPUs, the cluster has 0 .*workers\.gpu=false"):
        Workers(count=2, cpus_each=1, gpu=True).require()
