"""Controller of an endpoint: the catalogue of its models, roll-outs, canary shares, and the bounds of its requests.

It is one Serve deployment of one replica. Ingresses hold copies of what it decides, and go on by them while it is away:
another one begins with what this one kept in Ray's memory, and with what the ingresses report.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import ray.serve
import ray.util
from ray.serve.handle import DeploymentHandle

from asr.audio.limits import AudioLimits
from serve.config import ServeConfig
from serve.models.catalog_owner import CatalogOwner
from serve.models.catalog_store import CatalogStore, ClusterMemory, StateMemory
from serve.models.members import Alive, Members
from serve.models.messages import IngressReport, Orders, Usage
from serve.models.replica_group import ReplicaGroup
from serve.models.rollout import Rollout, RolloutRequest, Steps
from serve.models.version import Described, Held, Role, Version
from serve.shares.ledger import FRESH_S, Bounds

logger = logging.getLogger("ray.serve")

INGRESS = "Api"  # the name of the deployment whose replicas report here
REPORT_S = 1.0  # an ingress without news hears nothing for so long, and reports again
NODES_S = 10.0  # how often replicas are counted
GIVEN_BACK_S = 0.2  # an ingress that lives gives back within it what another one needs
COMPARE_THREADS = 2


@dataclass(frozen=True)
class VersionState:
    """A version of a name: its role or ``previous``, its share of requests, and its usage."""

    name: str
    state: Role | str
    share: float
    version: Version
    usage: Usage


class ModelController:
    """Decides which version answers a name, and which ingress may use how much of a bound; changes both.

    ``deployment`` tells a controller that begins again from that of another deployment.
    """

    def __init__(
        self,
        config: ServeConfig,
        replicas: DeploymentHandle,
        deployment: str,
        memory: StateMemory | None = None,
        alive: Alive | None = None,
    ) -> None:
        self._replicas = ReplicaGroup(replicas)
        app = "" if memory else ray.serve.get_replica_context().app_name
        self._alive = alive or _ingresses_of(app)
        store = CatalogStore(config, memory or ClusterMemory(app), deployment)
        self._bounds = Bounds()
        self._members = Members(self._alive, self._left)
        self._owner = CatalogOwner(store, self._members, self._replicas)
        whole = AudioLimits(max_bytes=config.max_upload_bytes, max_audio_s=config.max_audio_s)  # what is compared is
        threads = ThreadPoolExecutor(COMPARE_THREADS, thread_name_prefix="compare")
        self._rollout = Rollout(self._owner, self._replicas, threads, whole)
        self._nodes: frozenset[str] = frozenset()
        self._is_looking = False
        self._is_resumed = store.is_resumed
        self._dead: set[str] = set()
        self._begun: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def sync(self, report: IngressReport) -> Orders | None:
        """Take down an ingress's report, and return what it is to do as soon as that is something new, or a second on.

        None where a later report of the same ingress has come: then the answer to that one counts.
        """
        await self._begin()
        if report.ingress not in self._owner.ingresses:
            self._dead.discard(report.ingress)
            await self._owner.note(report.ingress, frozenset(self._dead))
        if self._members.is_overtaken(report):
            return None
        news = self._members.report(report)
        self._members.wake(self._bounds.report(report.ingress, report.shares, bool(self._members.awaited)))
        if self._bounds.stale and not self._is_looking:
            self._keep(self._look())
        with suppress(TimeoutError):
            async with asyncio.timeout(REPORT_S):
                while self._members.is_latest(report) and not self._has_news(report):
                    news.clear()
                    await news.wait()
        if not self._members.is_latest(report):
            return None
        self._members.tell(report, self._owner.revision)
        shares, full = self._bounds.orders(report.ingress)
        catalog = None if report.revision == self._owner.revision else self._owner.catalog
        return Orders(self._owner.revision, catalog, shares, full, self._nodes)

    async def pin(self, version: Version) -> Described:
        """Return what must be known of a version; one without a fingerprint has it from now on. Raises ApiError 503."""
        return await self._owner.pin(version)

    async def held(self) -> list[Held]:
        """Return what each replica holds."""
        return await self._replicas.held()

    async def states(self) -> list[VersionState]:
        """Return all versions of all names."""
        return [
            VersionState(name, state, share, version, self._owner.usage(version))
            for name, entry in self._owner.catalog.entries.items()
            for state, share, version in (
                ("stable", 1.0 - entry.share, entry.stable),
                ("candidate", entry.share, entry.candidate),
                ("previous", 0.0, entry.previous),
            )
            if version is not None
        ]

    async def change(self, verb: str, name: str, request: RolloutRequest) -> Steps:
        """Load, promote, roll back or unload a name, step by step; see ``Rollout.alone``."""
        await self._begin()
        await self._members.heard()
        steps = self._rollout.alone(verb, name, request)
        try:
            async for step in steps:
                yield step
        finally:
            await steps.aclose()

    def _has_news(self, report: IngressReport) -> bool:
        return report.revision != self._owner.revision or self._bounds.has_news(report.ingress)

    async def _begin(self) -> None:
        """Begin, once: after a controller of this deployment the ingresses that it knew are waited for."""
        if self._begun is None:
            self._begun = asyncio.create_task(self._first())
        await asyncio.shield(self._begun)

    async def _first(self) -> None:
        if self._is_resumed:
            self._members.awaited.update(self._owner.ingresses)
            await self._members.look()  # those that have died meanwhile are not waited for
            self._keep(self._resume())
        self._keep(self._watch())

    async def _resume(self) -> None:
        await self._members.heard()
        self._members.wake(self._bounds.settle())
        await self._rollout.tidy()  # what the controller before was about to unload

    async def _look(self) -> None:
        """Have those that have died taken out soon: another ingress waits for their shares."""
        self._is_looking = True
        try:
            await asyncio.sleep(GIVEN_BACK_S)
            await self._members.look(GIVEN_BACK_S + FRESH_S)
        finally:
            self._is_looking = False

    async def _watch(self) -> None:
        """Take out ingresses that die, and look on which nodes there are replicas."""
        counted = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(REPORT_S)
            try:
                await self._members.look()
                if loop.time() - counted > NODES_S:
                    counted = loop.time()
                    self._nodes = frozenset(one.node for one in await self._replicas.held())
            except Exception:  # the next look may find more
                logger.exception("the ingresses of the endpoint could not be looked after")

    def _left(self, ingress: str) -> None:
        self._dead.add(ingress)
        self._members.wake(self._bounds.leave(ingress, bool(self._members.awaited)))

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _ingresses_of(app: str) -> Alive:
    prefix = f"SERVE_REPLICA::{app}#{INGRESS}#"

    async def alive() -> set[str]:
        loop = asyncio.get_running_loop()
        actors = await loop.run_in_executor(None, partial(ray.util.list_named_actors, all_namespaces=True))
        return {actor["name"] for actor in actors if actor["name"].startswith(prefix)}

    return alive
