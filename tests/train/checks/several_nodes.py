"""A process of its own with a cluster, for test_nodes.py: its arguments are JSON, and so is its output.

Two nodes that are alike are looked at first, then three of which one is not. The first argument is {variable: value} of
the third node alone, the second and the third are the settings of a run on two nodes, and on three.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import ray
from ray.cluster_utils import Cluster

import train.checks.nodes
from asr.config import resolve
from train.checks.check import check_nodes
from train.config import TrainConfig

_STORE = 80 * 1024**2


def main() -> None:
    """Print the id of the third node, and the outcome of each step on two nodes and on three."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    train.checks.nodes.SCARCE = 0.0  # how much is free on the machine of a test is not what is tested
    third, on_two, on_three = map(json.loads, sys.argv[1:])
    head = {"num_cpus": 2, "object_store_memory": _STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=_STORE)
        ray.init(address=cluster.address, log_to_driver=False)
        alike = _outcomes(on_two)
        unlike = cluster.add_node(num_cpus=1, object_store_memory=_STORE, env_vars=third)
        print(json.dumps({"third": unlike.node_id, "alike": alike, "unlike": _outcomes(on_three)}))
    finally:
        ray.shutdown()
        cluster.shutdown()


def _outcomes(settings: list[str]) -> dict[str, Any]:
    config = resolve(TrainConfig, None, settings).value
    return {result.name: asdict(result.outcome) for result in check_nodes(config)}


if __name__ == "__main__":
    main()
