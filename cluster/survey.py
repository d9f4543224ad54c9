"""Asks all nodes of a connected cluster the same thing at the same time, with a time limit for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster import probe

if TYPE_CHECKING:
    from ray.actor import ActorHandle

ANSWER_S = 20.0
FIRST_S = 30.0  # a node may have to start a process first


@dataclass(frozen=True)
class Node:
    """A node by the name that people know it by, with the GPUs that Ray was told of, and its probe."""

    name: str
    gpus: int
    id: str
    probe: ActorHandle

    def gpu_probe(self) -> ActorHandle:
        """Return another probe of this node that holds one of its GPUs. It starts when one is free."""
        return _probe(self.id, num_gpus=1)


def _probe(node_id: str, **resources: float) -> ActorHandle:
    kind = ray.remote(probe.Probe).options(  # holding nothing, so that it also starts on a node that is at work
        num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False), **resources
    )
    return kind.remote()


@contextmanager
def survey() -> Iterator[list[Node]]:
    """Yield the nodes of the connected cluster, the head first, with probes on them that end with the block."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[probe.__name__])
    alive = [node for node in ray.nodes() if node["Alive"]]
    alive.sort(key=lambda node: ("node:__internal_head__" not in node["Resources"], node["NodeManagerAddress"]))
    names = [node["NodeManagerHostname"] for node in alive]
    addresses = [node["NodeManagerAddress"] for node in alive]
    nodes = []
    for number, node in enumerate(alive):
        name = names[number]
        if names.count(name) > 1:  # several nodes of one machine, as in tests and in containers
            name = addresses[number] if addresses.count(addresses[number]) == 1 else f"{name}/{node['NodeID'][:6]}"
        gpus = int(node["Resources"].get("GPU", 0))
        nodes.append(Node(name, gpus, node["NodeID"], _probe(node["NodeID"])))
    try:
        yield nodes
    finally:
        for node in nodes:
            ray.kill(node.probe)
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[probe.__name__])


def ask(
    nodes: list[Node], question: Callable[[Node], ray.ObjectRef], seconds: float = ANSWER_S
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the answers, and why others gave none, by the names of the nodes.

    ``question`` makes of a node the reference of its answer.
    """
    asked = {question(node): node.name for node in nodes}
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    answers: dict[str, Any] = {}
    silent = {asked[ref]: f"no answer within {seconds:.0f} s" for ref in asked if ref not in ready}
    for ref in ready:
        try:
            answers[asked[ref]] = ray.get(ref)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            silent[asked[ref]] = lines[-1].strip() if lines else type(error).__name__
    order = {node.name: number for number, node in enumerate(nodes)}
    return dict(sorted(answers.items(), key=lambda item: order[item[0]])), silent
