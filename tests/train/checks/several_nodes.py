"""A process of its own with a cluster of three nodes, for test_nodes.py: its arguments are JSON, and so is its output.

The first is {variable: value} of the third node alone, the second the settings of a run, [] for none.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import ray
from ray.cluster_utils import Cluster

import train.checks.nodes
from asr.config import resolve
from train.checks.check import check_nodes
from train.config import TrainConfig

_STORE = 80 * 1024**2


def main() -> None:
    """Print the id of the third node, and the outcome of each step."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    train.checks.nodes.SCARCE = 0.0  # how much is free on the machine of a test is not what is tested
    third, settings = map(json.loads, sys.argv[1:])
    head = {"num_cpus": 2, "object_store_memory": _STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=_STORE, env_vars=env) for env in ({}, third)]
        ray.init(address=cluster.address, log_to_driver=False)
        config = resolve(TrainConfig, None, settings).value if settings else None
        outcomes = {result.name: asdict(result.outcome) for result in check_nodes(config)}
        print(json.dumps({"third": nodes[1].node_id, "outcomes": outcomes}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
