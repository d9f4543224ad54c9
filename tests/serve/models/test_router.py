from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from asr.inference.model_info import ModelInfo
from asr.models.abilities import Refusal
from asr.transcript import Task
from serve.errors import ApiError
from serve.ingress.openai.parameters import options_of, read_parameters
from serve.models.catalog import Catalog, CatalogEntry
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


def router() -> Router:
    replica_group: Any = Fleet()
    return Router(Catalog({"tiny": CatalogEntry(Version("a"))}), replica_group, clock=lambda: 12.0)


def test_a_request_is_heard_by_one_version_which_then_has_a_fingerprint() -> None:
    async def ask() -> None:
        one = router()
        route = one.route("whisper-1", "r")
        with one.present(route):
            (route, info), (again, _) = await asyncio.gather(one.info(route), one.info(route))
            assert (route.name, route.role, route.version) == ("tiny", "stable", Version("a", "f"))
            assert info.name == "tiny" and again == route
            assert one.catalog.entries["tiny"].stable == Version("a", "f")
            assert one.usages[Version("a", "f")].present == 1
        usage = one.usages[Version("a", "f")]
        assert (usage.requests, usage.present, usage.last) == (1, 0, 12.0)

    asyncio.run(ask())


def test_whose_request_has_been_answered_is_told() -> None:
    async def ask() -> None:
        left: list[Version] = []
        fleet: Any = Fleet()
        one = Router(Catalog({"tiny": CatalogEntry(Version("a"))}), fleet, left.append)
        route, _ = await one.info(one.route("tiny", "r"))
        with one.present(route):
            assert not left and one.usages[route.version].present == 1
        assert left == [route.version] and one.usages[route.version].present == 0

    asyncio.run(ask())


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
