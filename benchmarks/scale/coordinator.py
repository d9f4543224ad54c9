"""Ray Data's coordinator of a cluster with many pipelines: its own class on a cluster that is only described.

Every pipeline of a cluster registers there when it begins and leaves when it ends, and is told its share of all nodes
again and again while it runs. A training worker has one pipeline, and a new one for each chunk of its orders.
"""

from __future__ import annotations

import pickle
from itertools import count
from unittest.mock import patch

from benchmarks.provenance import tell
from benchmarks.scale.figures import Figure, Sizes, median_core_s

GPUS_EACH = 8  # of a node
_NODE = {"CPU": 96.0, "GPU": float(GPUS_EACH), "memory": 1e12, "object_store_memory": 3e11}
_LABEL = "ray-subcluster"  # of a node: pipelines that name a value of it share the nodes that have it, and no others
_ASKS_PER_S = 10  # a pipeline looks for finished tasks so often, and asks for its share each time
_REPEATS = 5


def coordinator(sizes: Sizes) -> list[Figure]:
    """Return the figures of a pipeline for each worker, of fewer of them, and of all with each node apart."""
    nodes = -(-sizes.workers // GPUS_EACH)
    fewer = (max(1, sizes.workers // 10), -(-nodes // 10), False)
    figures = []
    for pipelines, among, apart in (fewer, (nodes, nodes, False), *((sizes.workers, nodes, each) for each in (0, 1))):
        tell(f"{pipelines:,} pipelines at the coordinator")
        figures += _measured(pipelines, among, bool(apart))
    return figures


def _measured(pipelines: int, among: int, apart: bool) -> list[Figure]:
    from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import STANDARD_RESOURCE_TYPES
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import _AutoscalingCoordinatorActor

    def label(number: int) -> dict[str, str]:
        return {_LABEL: f"node {number % among}"} if apart else {}

    nodes = [
        {"NodeID": f"{number:056x}", "Alive": True, "Resources": dict(_NODE), "Labels": label(number)}
        for number in range(among)
    ]
    made = _AutoscalingCoordinatorActor(
        send_resources_request=lambda *given, **named: None, get_cluster_nodes=lambda: nodes
    )
    numbers = count()

    def register() -> str:
        number = next(numbers)
        name = f"pipeline {number}"
        made.request_resources(
            name, [], 180.0, request_remaining=STANDARD_RESOURCE_TYPES, subcluster_selector=label(number) or None
        )
        return name

    with patch.object(made, "_refresh_resource_reservations", lambda: None):  # shared out anew with the last one only
        for _ in range(pipelines - 2):
            register()
    name = register()
    change_s = median_core_s(lambda: made.cancel_request(register()), _REPEATS) / 2  # either shares out anew
    answer = len(pickle.dumps(made.get_reserved_resources(name)))
    at = f"{pipelines:,} pipelines on {among:,} nodes{', each node apart' if apart else ''}"
    return [
        Figure("a pipeline begins, or ends", at, 1000 * change_s, "ms of the coordinator"),
        # The first ones find few there: half the work on average.
        Figure("all of them begin", at, pipelines * change_s / 2, "s of the coordinator"),
        Figure("what a pipeline is told each time", at, answer, "bytes"),
        Figure("what all are told", at, answer * pipelines * _ASKS_PER_S / 2**20, "MiB/s"),
    ]
