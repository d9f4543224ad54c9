from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asr.errors import UserError
from asr.inference.engine import ModelInfo
from serve.config import ServeConfig
from serve.models.catalog import Catalog, CatalogEntry, opened
from serve.models.router import HEADER, Router
from serve.models.version import Described, Version

INFO = ModelInfo("whatever it was loaded as", frozenset({"en"}), "en", "full", None)  # type: ignore[arg-type]


class Fleet:
    """Replicas that find files with the fingerprint ``f`` everywhere."""

    async def describe(self, version: Version) -> Described:
        await asyncio.sleep(0)
        return Described(Version(version.artifact, version.fingerprint or "f"), INFO, 1)


def router(registry: str = "") -> Router:
    replica_group: Any = Fleet()
    return Router(Catalog({"tiny": CatalogEntry(Version("a"))}), replica_group, registry, clock=lambda: 12.0)


def test_a_request_is_heard_by_one_version_which_then_has_a_fingerprint() -> None:
    async def ask() -> None:
        one = router()
        route = one.route("whisper-1", "r")
        with one.present(route):
            (route, info), (again, _) = await asyncio.gather(one.info(route), one.info(route))
            assert (route.name, route.role, route.version) == ("tiny", "stable", Version("a", "f"))
            assert info.name == "tiny" and again == route
            assert one.catalog.entries["tiny"].stable == Version("a", "f")
            assert one.usage(Version("a", "f")).present == 1
        usage = one.usage(Version("a", "f"))
        assert (usage.requests, usage.present, usage.last) == (1, 0, 12.0)

    asyncio.run(ask())


def test_who_leaves_a_version_is_waited_for() -> None:
    async def ask() -> None:
        one = router()
        route, _ = await one.info(one.route("tiny", "r"))
        await one.gone(route.version)
        with one.present(route), one.present(route):
            gone = asyncio.create_task(one.gone(route.version))
            await asyncio.sleep(0)
            assert not gone.done()
        await asyncio.wait_for(gone, 10.0)

    asyncio.run(ask())


def test_a_change_counts_when_it_is_kept_and_not_before(tmp_path: Path) -> None:
    place = tmp_path / "models.json"
    one = router(str(place))
    changed = one.catalog.with_name("other", Version("b"))
    asyncio.run(one.change(changed))
    assert one.catalog == changed
    assert "other" in opened(ServeConfig(models={"tiny": "a"}, registry=str(place))).entries
    place.unlink()
    place.mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        asyncio.run(one.change(changed.without("other")))
    assert one.catalog == changed


def test_the_answer_says_which_version_heard_it() -> None:
    from starlette.responses import Response

    one = router()
    route, _ = asyncio.run(one.info(one.route("tiny", "r")))
    assert route.named(Response()).headers[HEADER] == "stable f"
