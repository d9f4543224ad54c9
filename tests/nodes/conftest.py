"""What tests on several nodes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nodes.cluster import Nodes, nodes, possible


@pytest.fixture(scope="package")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster that the short tests share: a head without CPUs, which each of them gives the two nodes it needs."""
    if not possible():
        pytest.skip("needs root and Linux' network namespaces (Debian's iproute2)")
    with nodes(tmp_path_factory.mktemp("p")) as cluster:
        cluster.add(cpus=0)
        yield cluster


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster without nodes yet, in a folder whose name is short: Ray keeps sockets there."""
    if not possible():
        pytest.skip("needs root and Linux' network namespaces (Debian's iproute2)")
    with nodes(tmp_path_factory.mktemp("n")) as cluster:
        yield cluster
