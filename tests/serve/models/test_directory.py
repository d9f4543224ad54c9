from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.errors import ApiError
from serve.models.directory import ModelDirectory
from tests.asr.models.ctc import tiny
from tests.serve.fakes import LANGUAGES
from tests.serve.models.test_controller import FIRST, fleet


@asynccontextmanager
async def directory(folder: Path, **settings: Any) -> AsyncIterator[tuple[ModelDirectory, Any]]:
    async with fleet(folder, **settings) as one:
        link = await one.link(FIRST)
        yield ModelDirectory(link.router, link.replicas), link


def test_names_are_known_and_others_are_404(tmp_path: Path) -> None:
    async def ask() -> None:
        async with directory(tmp_path, models={"two": "second"}) as (ours, _):
            assert ours.names == ["one", "two"]
            assert (ours.name("two"), ours.name("whisper-1")) == ("two", "one")
            with pytest.raises(ApiError) as refused:
                ours.name("three")
            assert refused.value.status == 404

    asyncio.run(ask())


def test_the_default_model_answers_and_says_what_it_is(tmp_path: Path) -> None:
    async def ask() -> None:
        async with directory(tmp_path) as (ours, link):
            await ours.default_answers()
            assert (await ours.default_info()).name == "one"
            assert link.router.catalog.entries["one"].stable.fingerprint, "the files it found are noted"

    asyncio.run(ask())


def test_what_a_model_can_do_is_listed_without_loading_it(tmp_path: Path) -> None:
    letters = str(tiny.write(tmp_path / "letters", "wav2vec2-large-lv60"))

    async def ask() -> None:
        models = {"spelt": letters, "away": "s3://bucket/away", "hub": "nobody/nothing"}
        async with directory(tmp_path, models=models) as (ours, link):
            assert await ours.facts("one") is None, "nobody has asked the replica, and there are no files"
            await ours.default_answers()
            one, spelt = await ours.facts("one"), await ours.facts("spelt")
            assert spelt is not None and "translation" in spelt.refusals and "keywords" not in spelt.refusals
            assert (await ours.facts("away"), await ours.facts("hub")) == (None, None)
            stable = (await ours.default_info()) and link.router.catalog.entries["one"].stable
            await link.replicas.describe(stable)
            one = await ours.facts("one")
            assert one is not None and one.languages == LANGUAGES
            assert [list(held.nbytes) for held in await link.held()] == [[stable]]

    asyncio.run(ask())
