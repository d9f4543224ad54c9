"""What is missing is named before anything waits for it; the cluster is a real one."""

from __future__ import annotations

import pytest
import ray

from asr.errors import UserError
from cluster.scaling import require, require_workers, scaling_config
from cluster.workers import Elastic, Workers

HINTS = {"CPU": "fewer cores", "GPU": "gpu=false"}


def test_what_is_there_is_enough(ray_cluster: None) -> None:
    require({"CPU": ray.cluster_resources()["CPU"], "GPU": 0}, "it", HINTS)


@pytest.mark.parametrize(("kind", "amount"), [("CPU", 10_000), ("GPU", 1)])
def test_what_is_missing_is_named_with_what_to_do(ray_cluster: None, kind: str, amount: int) -> None:
    with pytest.raises(UserError, match=f"the run needs {amount} {kind}s, the cluster has .*{HINTS[kind]}"):
        require({kind: amount}, "the run", HINTS)


@pytest.mark.parametrize("workers", [Workers(count=3), Workers(gpu=True, count=4, cpus_each=2)])
def test_ray_train_is_asked_for_as_many_with_as_much(workers: Workers) -> None:
    scaling = scaling_config(workers)
    assert (scaling.num_workers, scaling.use_gpu) == (workers.count, workers.gpu)
    assert scaling.resources_per_worker == {"CPU": workers.threads} | ({"GPU": 1} if workers.gpu else {})


def test_elastic_workers_ask_for_a_range_and_need_its_lower_end(ray_cluster: None) -> None:
    workers = Workers(elastic=Elastic(min=1, max=1000), cpus_each=1)
    assert scaling_config(workers).num_workers == (1, 1000)
    assert (workers.least, workers.most) == (1, 1000)
    require_workers(workers)
    with pytest.raises(UserError, match=r"training needs 900 CPUs, .*lower workers\.elastic\.min"):
        require_workers(Workers(elastic=Elastic(min=900, max=1000), cpus_each=1))


def test_more_workers_than_the_cluster_holds_are_refused_at_once(ray_cluster: None) -> None:
    with pytest.raises(UserError, match=r"training needs 4000 CPUs, the cluster has .*workers\.count"):
        require_workers(Workers(count=1000, cpus_each=4))
    with pytest.raises(UserError, match=r"training needs 2 GPUs, the cluster has 0 .*workers\.gpu=false"):
        require_workers(Workers(count=2, cpus_each=1, gpu=True))
