from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from serve.config import ServeConfig
from serve.models.catalog import opened
from serve.models.catalog_store import CatalogStore, ClusterMemory
from serve.models.version import Version
from tests.serve.inside import Kept


def test_what_was_changed_outlives_the_controller_and_not_the_deployment() -> None:
    config, memory = ServeConfig(model="a", name="m", models={"n": "b"}), Kept()
    first = CatalogStore(config, memory, "one")
    begun = first.revision
    assert not first.is_resumed
    first.change(first.catalog.promoted("m", Version("c", "f")))
    again = CatalogStore(config, memory, "one")
    assert again.is_resumed and (again.catalog, again.revision) == (first.catalog, begun + 1)
    assert again.catalog.name("a") == "m" and again.catalog.default == "m"
    other = CatalogStore(config, memory, "two")
    assert not other.is_resumed and other.catalog == opened(config)
    assert other.revision > begun, "an ingress of the deployment before answers by an older one"


def test_the_registry_outlives_the_deployment_but_fingerprints_alone_do_not_change_it(tmp_path: Path) -> None:
    config = ServeConfig(model="a", name="m", registry=str(tmp_path / "models.json"))
    store = CatalogStore(config, Kept(), "one")
    begun = store.revision
    store.change(store.catalog.pinned(Version("a", "f")), kept=False)
    assert not (tmp_path / "models.json").exists() and store.revision == begun + 1
    store.change(store.catalog.promoted("m", Version("c", "f")))
    assert CatalogStore(config, Kept(), "two").catalog == store.catalog


def test_what_the_registry_does_not_take_has_not_happened(tmp_path: Path) -> None:
    config, memory = ServeConfig(model="a", name="m", registry=str(tmp_path / "models.json")), Kept()
    store = CatalogStore(config, memory, "one")
    before, begun = store.catalog, store.revision
    (tmp_path / "models.json").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        store.change(before.promoted("m", Version("c", "f")))
    assert (store.catalog, store.revision) == (before, begun)
    (tmp_path / "models.json").rmdir()
    assert CatalogStore(config, memory, "one").catalog == before


@pytest.mark.ray
def test_ray_remembers_what_was_put_last(ray_cluster: None) -> None:
    memory = ClusterMemory("a test")
    assert memory.get() is None
    for content in (b"one", b"two"):
        memory.put(content)
        assert ClusterMemory("a test").get() == content
    assert ClusterMemory("another").get() is None
