"""Roll-outs of versions, step by step: no route changes before the replicas hold the new version."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from pydantic import Field

from asr.audio.decode import AudioLimits
from asr.config import Section
from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from asr.language import name as language_name
from asr.printable import printable
from serve.config import GB
from serve.errors import ApiError
from serve.models.catalog import Catalog
from serve.models.catalog_owner import CatalogOwner
from serve.models.comparison import compare
from serve.models.replica_group import ReplicaGroup
from serve.models.version import Described, Version

DEFAULT_MARGIN = 0.01
LONGEST_PLACE = 200  # characters of an artifact's URI that are repeated in an answer
_NAMED = 5  # languages in a line
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")


class RolloutRequest(Section):
    """Arguments of a change; a verb that has no use for a field ignores it."""

    artifact: str = ""
    """An artifact's folder or address, a checkpoint or an export, as the replicas find it."""
    canary: float | None = Field(None, gt=0.0, lt=1.0)
    """The share of requests that a candidate answers, for now."""
    score: str = ""
    """A manifest of labelled clips, as the endpoint finds it."""
    max_wer: float | None = Field(None, ge=0.0)
    """The candidate's WER on them at most; 0.1 is 10 %."""
    margin: float = Field(DEFAULT_MARGIN, ge=0.0)
    """Margin by which its WER may be worse than the stable version's."""
    force: bool = False
    """Promote it in spite of its WER."""


@dataclass(frozen=True)
class RolloutStep:
    """A step that was done, in a word, and a line for the person who waits."""

    step: str
    text: str


Steps = AsyncGenerator[RolloutStep]


class Rollout:
    """Loads, promotes, rolls back and unloads: one change at a time. A client that stops listening stops the change."""

    def __init__(
        self, owner: CatalogOwner, replica_group: ReplicaGroup, threads: Executor, limits: AudioLimits
    ) -> None:
        self._owner = owner
        self._replica_group = replica_group
        self._threads = threads
        self._limits = limits
        self._busy = False
        self._tried: Version | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def verbs(self) -> Mapping[str, Callable[[str, RolloutRequest], Steps]]:
        """The changes by their names. Each raises what the replicas raise, UserError for what cannot be."""
        return {"load": self.load, "promote": self.promote, "rollback": self.rollback, "unload": self.unload}

    async def alone(self, verb: str, name: str, request: RolloutRequest) -> Steps:
        """Make one change. Raises ApiError 404 for another verb, 409 while another change is under way."""
        if verb not in self.verbs:
            raise ApiError(404, f"there is no '{printable(verb)}', only {', '.join(self.verbs)}", "not_found")
        if self._busy:
            raise ApiError(409, "another change to the models is under way", "busy")
        self._busy = True
        steps = self.verbs[verb](name, request)
        try:
            async for step in steps:
                yield step
        finally:
            await steps.aclose()
            if self._tried is not None and not self._owner.catalog.uses(self._tried):
                self._retire_soon(self._tried)
            self._busy, self._tried = False, None

    async def load(self, name: str, request: RolloutRequest) -> Steps:
        """Serve an artifact under a new name."""
        if not _NAME.fullmatch(name):
            raise UserError(f"'{printable(name)}' is no name for a model", "letters, digits and . _ : / -")
        if not request.artifact:
            raise UserError(f"load {name}: which artifact?")
        self._owner.catalog.with_name(name, Version(request.artifact))  # is the name free?
        yield RolloutStep("verify", f"reading {printable(request.artifact, LONGEST_PLACE)}")
        found = await self._replica_group.inspect(request.artifact)
        yield RolloutStep("verify", str(found))
        described, told = await self._loaded(found.version)
        yield told
        await self._change(self._owner.catalog.with_name(name, described.version))
        yield RolloutStep("done", f"'{name}' is served")

    async def promote(self, name: str, request: RolloutRequest) -> Steps:
        """Have a version answer a share of a name's requests, or all of them."""
        entry = self._owner.catalog.entry(name)
        if not entry.stable.fingerprint:
            with suppress(ApiError):  # one that cannot be loaded is all the more to be replaced
                await self._owner.pin(entry.stable)
        entry = self._owner.catalog.entry(name)
        if not request.artifact and entry.candidate is None:
            raise UserError(f"'{name}' has no candidate", f"promote {name} ARTIFACT")
        version = entry.candidate or entry.stable
        if request.artifact:
            yield RolloutStep("verify", f"reading {printable(request.artifact, LONGEST_PLACE)}")
            found = await self._replica_group.inspect(request.artifact)
            yield RolloutStep("verify", str(found))
            version = found.version
        if version == entry.stable:
            raise UserError(f"'{name}' is {version} already")
        described, told = await self._loaded(version)
        yield told
        if not await self._are_held((entry.stable, version)):
            yield RolloutStep(
                "memory", "memory_gb does not hold this version and the stable one at once: they take turns"
            )
        if less := await self._less(entry.stable, described, request.canary):
            yield less
        if request.score:
            yield await self._scored(name, described, request)
        if request.canary is None:
            await self._change(self._owner.catalog.promoted(name, version))
            yield RolloutStep("done", f"'{name}' is {version}; rollback {name} goes back to {entry.stable}")
        else:
            await self._change(self._owner.catalog.with_candidate(name, version, request.canary))
            yield RolloutStep(
                "done", f"{version} answers {request.canary:.0%} of '{name}'; promote {name} gives it all"
            )

    async def rollback(self, name: str, request: RolloutRequest) -> Steps:
        """End a canary, or go back to the version before."""
        ends_canary = self._owner.catalog.entry(name).candidate is not None
        stable = self._owner.catalog.rolled_back(name).entries[name].stable
        if not ends_canary:
            yield (await self._loaded(stable))[1]  # at once, where it is still held
        await self._change(self._owner.catalog.rolled_back(name))
        yield RolloutStep("done", f"'{name}' is {stable}" + (" alone" if ends_canary else " again"))

    async def unload(self, name: str, request: RolloutRequest) -> Steps:
        """Take a name out, once its requests are answered."""
        before = self._owner.catalog
        after = before.without(name)
        yield RolloutStep("unload", f"no new requests for '{name}'; those in flight are answered")
        try:
            await self._owner.change(after)
        except BaseException:  # it is made all the same, if some ingress has not said so
            self._retire_unused(before)
            raise
        for version in _unused(before, after):
            await self._retire(version)
        yield RolloutStep("done", f"'{name}' is no longer served")

    async def tidy(self) -> None:
        """Unload what no name needs, once its requests are answered: a controller may have ended before it did."""
        held = {version for one in await self._replica_group.held() for version in one.nbytes}
        for version in held:
            if version != self._tried and not self._owner.catalog.uses(version):
                self._retire_soon(version)

    async def _loaded(self, version: Version) -> tuple[Described, RolloutStep]:
        self._tried = version
        loaded = await self._replica_group.load(version)
        if not loaded:
            raise ApiError(503, "no replica of the model answers", "model_unavailable")
        size = loaded[0].nbytes / GB
        replicas = "one replica holds" if len(loaded) == 1 else f"{len(loaded)} replicas hold"
        return loaded[0], RolloutStep("load", f"{replicas} it, warm, {size:.2f} GB each")

    async def _less(self, before: Version, after: Described, canary: float | None) -> RolloutStep | None:
        """Return what a version cannot be asked for that the stable one can; None where that is nothing."""
        try:
            stable = await self._replica_group.describe(before)
        except ApiError:  # one that cannot be loaded can do nothing
            return None
        missing = what_is_missing(stable.info, after.info)
        answered = "are refused from now on" if canary is None else "are answered by the stable version meanwhile"
        return RolloutStep("less", f"requests for {', '.join(missing)} {answered}") if missing else None

    async def _are_held(self, versions: tuple[Version, ...]) -> bool:
        return all(version in held.nbytes for held in await self._replica_group.held() for version in versions)

    async def _scored(self, name: str, candidate: Described, request: RolloutRequest) -> RolloutStep:
        stable = await self._replica_group.describe(self._owner.catalog.entry(name).stable)
        trial = await compare(self._replica_group, request.score, candidate, stable, self._threads, self._limits)
        fault = trial.fault(request.max_wer, request.margin)
        if fault and not request.force:
            raise UserError(f"{candidate.version} is not promoted: {fault}", "force promotes it all the same")
        return RolloutStep("score", f"{trial}; {fault}, promoted all the same" if fault else str(trial))

    async def _change(self, after: Catalog) -> None:
        """Change what the names stand for, and unload what no name needs any more as soon as nobody uses it."""
        before = self._owner.catalog
        try:
            await self._owner.change(after)
        finally:
            self._retire_unused(before)

    def _retire_unused(self, before: Catalog) -> None:
        for version in _unused(before, self._owner.catalog):
            self._retire_soon(version)

    def _retire_soon(self, version: Version) -> None:
        task = asyncio.create_task(self._retire(version))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, version: Version) -> None:
        await self._owner.gone(version)
        if not self._owner.catalog.uses(version):  # it may have come back meanwhile
            await self._replica_group.drop(version)


def what_is_missing(before: ModelInfo, after: ModelInfo) -> list[str]:
    """Return what the model ``before`` can be asked for and the model ``after`` cannot, for people."""
    abilities = [ability for ability in after.refusals if ability not in before.refusals]
    if not after.languages or (before.languages and before.languages <= after.languages):
        return list(abilities)
    known = ", ".join(language_name(code) for code in sorted(after.languages))
    return [*abilities, f"languages other than {known}" if len(after.languages) <= _NAMED else "some of its languages"]


def _unused(before: Catalog, after: Catalog) -> list[Version]:
    named = {version: None for entry in before.entries.values() for version in entry.versions}
    return [version for version in named if not after.uses(version)]
