"""What is missing is named before anything waits for it; the cluster is a real one."""

from __future__ import annotations

import pytest
import ray

from asr.errors import UserError
from cluster.resources import require

HINTS = {"CPU": "fewer cores", "GPU": "gpu=false"}


def test_what_is_there_is_enough(ray_cluster: None) -> None:
    require({"CPU": ray.cluster_resources()["CPU"], "GPU": 0}, "it", HINTS)


@pytest.mark.parametrize(("kind", "amount"), [("CPU", 10_000), ("GPU", 1)])
def test_what_is_missing_is_named_with_what_to_do(ray_cluster: None, kind: str, amount: int) -> None:
    with pytest.raises(UserError, match=f"the run needs {amount} {kind}s, the cluster has .*{HINTS[kind]}"):
        require({kind: amount}, "the run", HINTS)
