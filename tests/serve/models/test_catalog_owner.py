from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asr.errors import UserError
from serve.errors import ApiError
from serve.models.messages import IngressReport, Usage
from serve.models.version import Version
from tests.serve.models.test_rollout import stubs


def test_a_change_has_happened_once_every_ingress_answers_by_it() -> None:
    async def ask() -> None:
        one = stubs()
        one.members.report(IngressReport("ingress", 1, one.owner.revision))
        changing = asyncio.create_task(one.owner.change(one.owner.catalog.with_name("n", Version("new"))))
        await asyncio.sleep(0.1)
        assert "n" in one.entries and not changing.done()
        one.members.report(IngressReport("ingress", 2, one.owner.revision))
        await changing

    asyncio.run(ask())


def test_an_ingress_that_takes_no_change_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.models.catalog_owner.TAKEN_UP_S", 0.05)

    async def ask() -> None:
        one = stubs()
        one.members.report(IngressReport("Api#deaf", 1, one.owner.revision))
        with pytest.raises(ApiError, match=r"the change is made, but .*: Api#deaf") as told:
            await one.owner.change(one.owner.catalog.with_name("n", Version("new")))
        assert told.value.status == 503 and "n" in one.entries

    asyncio.run(ask())


def test_a_fingerprint_found_while_a_change_is_kept_is_not_lost() -> None:
    async def ask() -> None:
        one = stubs()
        changed = one.owner.catalog.with_name("n", Version("new"))
        await asyncio.gather(one.owner.change(changed), one.owner.pin(Version("old")))
        assert one.entries["m"].stable == Version("old", "f") and "n" in one.entries
        revision = one.owner.revision
        await one.owner.pin(Version("old", "f"))
        assert one.owner.revision == revision, "nothing new"

    asyncio.run(ask())


def test_what_cannot_be_kept_changes_nothing(tmp_path: Path) -> None:
    async def ask() -> None:
        one = stubs()
        before = one.owner.catalog
        store = one.owner._store
        store.config = store.config.model_copy(update={"registry": str(tmp_path)})
        with pytest.raises(UserError, match="cannot be written"):
            await one.owner.change(before.with_name("n", Version("new")))
        assert one.owner.catalog == before

    asyncio.run(ask())


def test_a_version_is_gone_when_no_ingress_has_a_request_of_it() -> None:
    async def ask() -> None:
        one = stubs()
        old = Version("old", "f")
        one.members.report(IngressReport("ingress", 1, one.owner.revision, {old: Usage(requests=2, present=1)}))
        assert one.owner.usage(old).requests == 2
        waiting = asyncio.create_task(one.owner.gone(old))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        one.members.report(IngressReport("ingress", 2, one.owner.revision, {old: Usage(requests=2)}))
        await waiting

    asyncio.run(ask())
