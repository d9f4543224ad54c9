from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from serve.config import ServeConfig
from serve.ingress.scaling import BUSY, NODES, IngressLoad, IngressPolicy, ingress_range, least_ingresses


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        ({}, 1, (1, 1)),
        ({"replicas": 4}, 1, (1, 1)),
        ({"replicas": 4}, 3, (3, 4)),
        ({"replicas": {"min": 1, "max": 6}}, 3, (1, 6)),
        ({"ingresses": 2}, 1, (2, 2)),
        ({"ingresses": {"min": 2, "max": 5}}, 9, (2, 5)),
        ({"ingresses": {"max": 5}}, 9, (1, 5)),
    ],
)
def test_there_is_one_here_and_one_on_each_node_of_a_cluster_unless_it_is_said(
    settings: dict[str, Any], nodes: int, expected: tuple[int, int]
) -> None:
    assert ingress_range(ServeConfig(model="m", **settings), nodes) == expected


def wanted(busy: list[float], nodes: float) -> int:
    figures = {BUSY: dict(enumerate(busy)), NODES: {0: nodes}}
    context: Any = SimpleNamespace(aggregated_metrics=figures)
    return IngressPolicy(0.6)(context)[0]


def test_there_are_as_many_as_nodes_and_more_where_they_are_busy() -> None:
    assert wanted([0.1], 1.0) == 1
    assert wanted([0.1], 3.0) == 3
    assert wanted([0.9, 0.8], 1.0) == 3
    nothing: Any = SimpleNamespace(aggregated_metrics=None)
    assert IngressPolicy(0.6)(nothing)[0] == 1


def test_the_load_is_the_share_of_a_core_since_it_was_asked_last() -> None:
    clock, used = iter([0.0, 10.0, 10.0]), iter([1.0, 4.0, 4.0])
    load = IngressLoad(lambda: next(clock), lambda: next(used))
    assert load.figures(2) == {BUSY: 0.3, NODES: 2.0}
    assert load.figures(2)[BUSY] == 0.0


def test_an_ingress_without_a_place_beside_replicas_was_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cluster(*cpus: float) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": one}} for one in cpus]

    config = ServeConfig(model="m", replicas={"min": 2, "max": 2}, cpus_each=8)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for cpus, expected in (((2.0, 8.0, 8.0), 1), ((2.0, 9.0, 9.0), 2)):
        monkeypatch.setattr(ray, "nodes", lambda cpus=cpus: cluster(*cpus))
        assert least_ingresses(config) == expected
