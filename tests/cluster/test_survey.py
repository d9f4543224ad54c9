from __future__ import annotations

import time

import pytest
import ray

from cluster.survey import ask, survey


@pytest.mark.usefixtures("ray_cluster")
def test_every_node_is_asked_and_who_does_not_answer_is_named() -> None:
    with survey() as nodes:
        assert len(nodes) == 1
        (node,) = nodes
        answers, silent = ask(nodes, lambda node: node.probe.now.remote(), 60.0)
        assert abs(answers[node.name] - time.time()) < 60 and silent == {}
        never = ray.remote(num_cpus=10_000)(lambda: 0)
        assert ask(nodes, lambda _: never.remote(), 0.1) == ({}, {node.name: "no answer within 0 s"})
        answers, silent = ask(nodes, lambda node: node.probe.dial.remote(None))  # a fault of ours on that node
        assert answers == {} and "AttributeError" in silent[node.name]
    with pytest.raises(ray.exceptions.RayActorError):  # the probe ends with the block, which does not wait for it
        until = time.monotonic() + 30
        while time.monotonic() < until:
            ray.get(node.probe.now.remote())
