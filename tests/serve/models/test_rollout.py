"""Changes under load with real engines, through the command; and their order with replicas that are stubs."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai
import pytest
import ray.serve
from peft import LoraConfig, get_peft_model

from asr.audio.decode import AudioLimits
from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from asr.models.abilities import Refusal
from asr.models.artifact import complete
from asr.models.checkpoint import find_checkpoint
from asr.models.whisper.loading import load_checkpoint
from serve.app import deploy
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.models import cli
from serve.models.catalog import CatalogEntry, opened
from serve.models.catalog_owner import CatalogOwner
from serve.models.catalog_store import CatalogStore
from serve.models.members import Members
from serve.models.messages import IngressReport, Usage
from serve.models.rollout import Rollout, RolloutRequest, what_is_missing
from serve.models.version import ArtifactInfo, Described, Held, Version
from tests.asr.models.test_artifact import card
from tests.serve.conftest import metrics
from tests.serve.inside import Kept, nobody

INFO = ModelInfo("m", frozenset({"en"}), "en", "full", None)  # type: ignore[arg-type]
OLD, NEW = Version("old", "f"), Version("new", "f")


class Fleet:
    """Replicas that note what they are told, and fail to load what is called ``broken``."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.infos: dict[str, ModelInfo] = {}
        self.open = asyncio.Event()
        self.open.set()

    async def describe(self, version: Version) -> Described:
        if version.artifact == "lost":
            raise ApiError(503, "this model cannot be loaded now", "model_unavailable")
        return Described(Version(version.artifact, "f"), self.infos.get(version.artifact, INFO), 1)

    async def inspect(self, artifact: str) -> ArtifactInfo:
        self.told.append(f"inspect {artifact}")
        return ArtifactInfo(Version(artifact, "f"), "a checkpoint")

    async def load(self, version: Version) -> list[Described]:
        self.told.append(f"load {version.artifact}")
        await self.open.wait()
        if version.artifact == "broken":
            raise UserError("broken is damaged")
        return [await self.describe(version)]

    async def drop(self, version: Version) -> None:
        self.told.append(f"drop {version.artifact}")

    async def held(self) -> list[Held]:
        return [Held({OLD: 1, NEW: 1}, 2)]


@dataclass
class Stubs:
    """A real roll-out over stubs of replicas; its ingresses are what ``members`` are told of."""

    replica_group: Fleet
    members: Members
    owner: CatalogOwner
    rollout: Rollout

    @property
    def entries(self) -> Mapping[str, CatalogEntry]:
        return self.owner.catalog.entries


def stubs(artifact: str = "old") -> Stubs:
    replica_group: Any = Fleet()
    members = Members(nobody, lambda ingress: None)
    owner = CatalogOwner(CatalogStore(ServeConfig(model=artifact, name="m"), Kept(), "d"), members, replica_group)
    return Stubs(replica_group, members, owner, Rollout(owner, replica_group, ThreadPoolExecutor(1), AudioLimits()))


async def done(rollout: Rollout, verb: str, name: str = "m", **order: Any) -> list[str]:
    steps = [step.step async for step in rollout.alone(verb, name, RolloutRequest(**order))]
    await asyncio.gather(*rollout._retiring)
    return steps


def test_nothing_changes_before_the_replicas_hold_what_is_to_answer() -> None:
    async def ask() -> None:
        one = stubs()
        replica_group, rollout = one.replica_group, one.rollout
        replica_group.open.clear()
        promoting = asyncio.create_task(done(rollout, "promote", artifact="new"))
        while "load new" not in replica_group.told:
            await asyncio.sleep(0)
        assert one.entries["m"].stable == OLD
        with pytest.raises(ApiError, match="another change"):
            await done(rollout, "rollback")
        replica_group.open.set()
        assert await promoting == ["verify", "verify", "load", "done"]
        assert one.entries["m"] == CatalogEntry(NEW, previous=OLD, configured="old")
        assert replica_group.told == ["inspect new", "load new"], "the one before stays loaded, for a rollback"
        assert await done(rollout, "rollback") == ["load", "done"]
        assert replica_group.told[-2:] == ["load old", "drop new"]

    asyncio.run(ask())


def test_what_a_version_cannot_do_is_told_when_it_is_promoted() -> None:
    no = Refusal("cannot", "ask another")
    whisper = replace(INFO, languages=frozenset({"it", "nl"}), refusals={"keywords": no})
    speller = replace(INFO, languages=frozenset({"it"}), refusals={"prompt": no, "translation": no})
    anything = replace(speller, languages=frozenset[str]())
    assert what_is_missing(whisper, speller) == ["prompt", "translation", "languages other than Italian"]
    assert what_is_missing(speller, whisper) == ["keywords"]
    assert what_is_missing(whisper, anything) == ["prompt", "translation"]
    assert what_is_missing(anything, speller) == ["languages other than Italian"]
    assert what_is_missing(whisper, whisper) == []

    async def ask() -> None:
        one = stubs()
        replica_group, rollout = one.replica_group, one.rollout
        replica_group.infos = {"old": whisper, "new": speller}
        for canary, told in ((0.5, "the stable version meanwhile"), (None, "refused from now on")):
            steps = {
                one.step: one.text async for one in rollout.promote("m", RolloutRequest(artifact="new", canary=canary))
            }
            assert "prompt, translation, languages other than Italian" in steps["less"] and told in steps["less"]

    asyncio.run(ask())


def test_what_is_refused_or_given_up_is_unloaded_again_and_the_next_change_may_begin() -> None:
    async def ask() -> None:
        one = stubs()
        replica_group, rollout = one.replica_group, one.rollout
        with pytest.raises(UserError, match="broken is damaged"):
            await done(rollout, "promote", artifact="broken")
        await asyncio.gather(*rollout._retiring)
        assert replica_group.told[-1] == "drop broken"
        replica_group.open.clear()
        given_up = asyncio.create_task(done(rollout, "promote", artifact="new"))
        while "load new" not in replica_group.told:
            await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await asyncio.gather(*rollout._retiring)
        assert replica_group.told[-1] == "drop new"
        replica_group.open.set()
        assert one.entries == {"m": CatalogEntry(OLD, configured="old")}
        assert (await done(rollout, "promote", artifact="new", canary=0.5))[-1] == "done"

    asyncio.run(ask())


def test_a_stable_version_that_is_lost_can_be_replaced() -> None:
    async def ask() -> None:
        one = stubs("lost")
        rollout = one.rollout
        assert (await done(rollout, "promote", artifact="new"))[-1] == "done"
        assert one.entries["m"] == CatalogEntry(NEW, previous=Version("lost"), configured="lost")

    asyncio.run(ask())


def test_a_version_is_unloaded_when_its_last_request_has_been_answered() -> None:
    async def ask() -> None:
        one = stubs()
        replica_group, rollout = one.replica_group, one.rollout
        await done(rollout, "load", "second", artifact="new")
        one.members.report(IngressReport("ingress", 1, one.owner.revision, {NEW: Usage(present=1)}))
        unloading = asyncio.create_task(done(rollout, "unload", "second"))
        while "second" in one.entries:
            await asyncio.sleep(0)
        one.members.report(IngressReport("ingress", 2, one.owner.revision, {NEW: Usage(present=1)}))
        await asyncio.sleep(0.1)
        assert not unloading.done() and "drop new" not in replica_group.told
        one.members.report(IngressReport("ingress", 3, one.owner.revision, {NEW: Usage(requests=1)}))
        await unloading
        assert replica_group.told[-1] == "drop new"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("verb", "name", "order", "reason"),
    [
        ("promote", "n", {"artifact": "new"}, "no model 'n' here"),
        ("promote", "m", {}, "no candidate"),
        ("promote", "m", {"artifact": "old"}, "already"),
        ("load", "m", {"artifact": "new"}, "already"),
        ("load", "a b", {"artifact": "new"}, "no name"),
        ("load", "n", {}, "which artifact"),
        ("unload", "m", {}, "default"),
        ("rollback", "m", {}, "no version before"),
        ("delete", "m", {}, "no 'delete', only load, promote, rollback, unload"),
    ],
)
def test_what_cannot_be_is_refused(verb: str, name: str, order: dict[str, str], reason: str) -> None:
    async def ask() -> None:
        one = stubs()
        rollout = one.rollout
        before = one.entries["m"].stable.artifact
        with pytest.raises((UserError, ApiError), match=reason):
            await done(rollout, verb, name, **order)
        assert one.entries["m"].stable.artifact == before

    asyncio.run(ask())


# From here on: a real endpoint, a real network, of a few random weights, and a real adapter for it.

ADMIN = "a key that may change its models"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, small_base: str) -> Path:
    """An artifact that says what its base says: an adapter at the beginning of its training."""
    folder = tmp_path_factory.mktemp("adapter") / "artifact"
    network = load_checkpoint(find_checkpoint(small_base)).network
    get_peft_model(network, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    complete(folder, card(small_base, short_context=False))
    return folder


class Clients:
    """They ask for words without a pause, for one model, and note which version answered."""

    def __init__(self, url: str, flac: bytes, model: str) -> None:
        self.answers: list[str] = []
        self.failures: list[Exception] = []
        self._url, self._flac, self._model = url, flac, model
        self._stop = threading.Event()

    def ask(self) -> None:
        with openai.OpenAI(base_url=f"{self._url}/v1", api_key=ADMIN, max_retries=0) as client:
            while not self._stop.is_set():
                try:
                    answer = client.audio.transcriptions.with_raw_response.create(model=self._model, file=self._flac)
                    assert answer.parse().text
                    self.answers.append(answer.headers["x-model-version"])
                except Exception as error:
                    self.failures.append(error)

    @contextmanager
    def asking(self, count: int = 2) -> Iterator[None]:
        with ThreadPoolExecutor(count) as pool:
            tasks = [pool.submit(self.ask) for _ in range(count)]
            try:
                yield
            finally:
                self._stop.set()
        for task in tasks:
            task.result()

    def next(self, count: int, roles: int = 1) -> set[str]:
        """Wait for so many more answers, and for answers of so many; return by whom they are."""
        begin = len(self.answers)
        while not self.failures:
            found = {answer.split()[0] for answer in self.answers[begin + 2 :]}  # two were under way
            if len(self.answers) >= begin + count and len(found) >= roles:
                return found
            self._stop.wait(0.01)
        return set()


@pytest.fixture(scope="module")
def served(endpoint: str, small_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeConfig]:
    """A third application: its configuration. It ends with this module."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "keys.yaml").write_text(f"- {{name: keeper, key: {ADMIN}, admin: true}}")
    config = ServeConfig(
        model=small_base,
        name="tiny",
        engine="torch",
        cpus_each=1,
        keys=str(folder / "keys.yaml"),
        registry=str(folder / "models.json"),
    )
    try:
        deploy(config, name="served", route_prefix="/served")
        yield config
    finally:
        ray.serve.delete("served", _blocking=False)


@pytest.mark.slow
def test_no_request_fails_while_versions_come_and_go(
    served: ServeConfig, endpoint: str, adapter: Path, flacs: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{endpoint}/served"
    here: dict[str, Any] = {"url": url, "key": ADMIN}
    clients = Clients(url, flacs[0], "tiny")
    with clients.asking():
        clients.next(3)
        cli.promote("tiny", str(adapter), canary=0.5, **here)
        assert clients.next(4, roles=2) == {"stable", "candidate"}
        cli.promote("tiny", **here)
        assert clients.next(3) == {"stable"}
        promoted = clients.answers[-1]
        cli.rollback("tiny", **here)
        clients.next(3)
        assert clients.answers[-1] != promoted
        damaged = damage(adapter)
        with pytest.raises(UserError, match=r"adapter_model\.safetensors: digest"):
            cli.promote("tiny", str(damaged), **here)
        clients.next(3)
        cli.load("second", str(adapter), **here)
        others = Clients(url, flacs[1], "second")
        with others.asking(1):
            others.next(3)
            cli.unload("second", **here)
            while not others.failures:
                time.sleep(0.01)
        assert {type(error) for error in others.failures} == {openai.NotFoundError}
        assert len(set(others.answers)) == 1
    assert clients.failures == []
    assert len({answer.split()[1] for answer in clients.answers}) == 2
    counted = metrics(url, ADMIN)
    by = dict(re.findall(r'requests_total\{key="keeper",model="tiny",status="200",version="(\w+)"\} (\S+)', counted))
    assert float(by["candidate"]) == sum(answer.startswith("candidate") for answer in clients.answers)
    assert 'status="5' not in counted
    assert opened(served).entries["tiny"].stable.artifact == served.model
    assert "warm" in capsys.readouterr().out


def damage(adapter: Path) -> Path:
    """A copy of an artifact with a bit turned in its weights."""
    folder = adapter.parent / "damaged"
    folder.mkdir()
    for path in adapter.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return folder
