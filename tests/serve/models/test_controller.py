from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve.config import ServeConfig
from serve.errors import ApiError
from serve.models.controller import ModelController
from serve.models.rollout import RolloutRequest
from serve.models.version import Version
from serve.replica.transcriber import Transcriber
from tests.asr.models.ctc import tiny
from tests.serve.fakes import LANGUAGES, FakeEngine
from tests.serve.inside import Handle
from tests.serve.made import made


async def controller(folder: Path, **settings: Any) -> ModelController:
    """One in front of a real replica with fake engines."""
    config = ServeConfig(model="first", name="one", **settings)
    handle: Any = Handle(Transcriber(config, made(lambda config: FakeEngine(config, folder))))
    return ModelController(config, handle, ThreadPoolExecutor(1))


def test_names_are_known_and_others_are_404(tmp_path: Path) -> None:
    async def ask() -> None:
        owner = await controller(tmp_path, models={"two": "second"})
        assert owner.names == ["one", "two"]
        assert (owner.name("two"), owner.name("whisper-1")) == ("two", "one")
        with pytest.raises(ApiError) as refused:
            owner.name("three")
        assert refused.value.status == 404

    asyncio.run(ask())


def test_the_default_model_answers_and_says_what_it_is(tmp_path: Path) -> None:
    async def ask() -> None:
        owner = await controller(tmp_path)
        await owner.default_answers()
        assert (await owner.default_info()).name == "one"
        assert owner.router.catalog.entries["one"].stable.fingerprint, "the files it found are noted"

    asyncio.run(ask())


def test_what_a_model_can_do_is_listed_without_loading_it(tmp_path: Path) -> None:
    letters = str(tiny.write(tmp_path / "letters", "wav2vec2-large-lv60"))

    async def ask() -> None:
        owner = await controller(
            tmp_path, models={"spelt": letters, "away": "s3://bucket/away", "hub": "nobody/nothing"}
        )
        assert await owner.facts("one") is None, "nobody has asked the replica, and there are no files"
        await owner.default_info()
        one, spelt = await owner.facts("one"), await owner.facts("spelt")
        assert one is not None and one.languages == LANGUAGES
        assert spelt is not None and "translation" in spelt.refusals and "keywords" not in spelt.refusals
        assert (await owner.facts("away"), await owner.facts("hub")) == (None, None)
        assert [list(held.nbytes) for held in await owner.held()] == [[owner.router.catalog.entries["one"].stable]]

    asyncio.run(ask())


def test_a_canary_is_a_state_with_a_share_and_a_promotion_leaves_the_version_before(tmp_path: Path) -> None:
    async def ask() -> None:
        owner = await controller(tmp_path)
        change = owner.change("promote", "one", RolloutRequest(artifact="second", canary=0.25))
        assert [step.step async for step in change][-1] == "done"
        assert [(one.state, one.share, one.version.artifact) for one in owner.states()] == [
            ("stable", 0.75, "first"),
            ("candidate", 0.25, "second"),
        ]
        assert [step.step async for step in owner.change("promote", "one", RolloutRequest())][-1] == "done"
        assert [(one.state, one.share, one.version.artifact) for one in owner.states()] == [
            ("stable", 1.0, "second"),
            ("previous", 0.0, "first"),
        ]
        (held,) = await owner.held()
        assert {version.artifact for version in held.nbytes} <= {"first", "second"}
        assert all(isinstance(version, Version) for version in held.nbytes)

    asyncio.run(ask())
