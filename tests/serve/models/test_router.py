from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asr.errors import UserError
from asr.inference.engine import ModelInfo
from asr.models.abilities import Refusal
from asr.transcript import Task
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.ingress.openai.parameters import options_of, read_parameters
from serve.models.catalog import Catalog, CatalogEntry, opened
from serve.models.router import HEADER, Check, Router
from serve.models.version import Described, Version

INFO = ModelInfo("whatever it was loaded as", frozenset({"en"}), "en", "full", None)  # type: ignore[arg-type]


NO = Refusal("cannot", "ask another")
SPELLER = ModelInfo("s", frozenset({"it"}), "it", "full", None, refusals={"prompt": NO})  # type: ignore[arg-type]
LISTENER = ModelInfo("l", frozenset({"it", "nl"}), None, "full", None, refusals={"keywords": NO})  # type: ignore[arg-type]


class Fleet:
    """Replicas that find files with the fingerprint ``f`` everywhere, and nothing that is called ``lost``."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None

    async def describe(self, version: Version) -> Described:
        await asyncio.sleep(0)
        self.meanwhile()
        if version.artifact == "lost":
            raise ApiError(503, "this model cannot be loaded now", "model_unavailable")
        info = {"speller": SPELLER, "listener": LISTENER}.get(version.artifact, INFO)
        return Described(Version(version.artifact, version.fingerprint or "f"), info, 1)


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


def canary(stable: str, candidate: str) -> tuple[Fleet, Router]:
    """A candidate that would answer everything."""
    fleet: Any = Fleet()
    entry = CatalogEntry(Version(stable, "f"), candidate=Version(candidate, "f"), share=1.0)
    return fleet, Router(Catalog({"m": entry}), fleet)


def asking(task: Task = "transcribe", **fields: str) -> Check:
    parameters = read_parameters([("model", "m"), *fields.items()])
    return lambda model: options_of(model, parameters, task)


@pytest.mark.parametrize(
    ("stable", "candidate", "fields", "role"),
    [
        ("listener", "speller", {}, "candidate"),
        ("listener", "speller", {"language": "it"}, "candidate"),
        ("listener", "speller", {"prompt": "Digium"}, "stable"),
        ("listener", "speller", {"language": "nl"}, "stable"),
        ("listener", "speller", {"keywords[]": "Digium"}, "stable"),
        ("speller", "listener", {"prompt": "Digium"}, "stable"),
        ("speller", "listener", {"keywords[]": "Digium"}, "stable"),
        ("lost", "speller", {}, "candidate"),
        ("listener", "lost", {}, "candidate"),
    ],
)
def test_a_ctc_canary_refused_its_share_of_what_whisper_can_do(
    stable: str, candidate: str, fields: dict[str, str], role: str
) -> None:
    _, one = canary(stable, candidate)
    route = asyncio.run(one.able_route("m", "r", asking(**fields)))
    assert (route.role, route.version.artifact) == (role, stable if role == "stable" else candidate)


def test_a_canary_that_ends_while_its_model_is_asked_answers_no_more() -> None:
    fleet, one = canary("listener", "speller")

    def end() -> None:
        one.catalog = one.catalog.rolled_back("m") if one.catalog.entries["m"].candidate else one.catalog

    fleet.meanwhile = end
    assert asyncio.run(one.able_route("m", "r", asking())).role == "stable"
