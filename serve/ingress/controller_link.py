"""Link of an ingress to the controller: reports, and does what is ordered; goes on as before while none answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import ray.exceptions
import ray.serve
import ray.serve.exceptions
from ray.serve.handle import DeploymentHandle

from serve.errors import ApiError
from serve.models.catalog import Catalog
from serve.models.controller import INGRESS, VersionState
from serve.models.messages import IngressReport, Orders
from serve.models.replica_group import ReplicaGroup
from serve.models.rollout import RolloutRequest, Steps
from serve.models.router import Router
from serve.models.version import Described, Held, Version
from serve.shares.limit import Shares

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

GAP_S = 0.01  # between two reports: what is wanted meanwhile is in the next one
PAUSE_S = 0.25  # before a controller is asked again that did not answer
ANSWER_S = 10.0  # for an answer that a living controller gives after a second
AGAIN_S = 60.0  # for which a question is asked again while another controller begins

_GONE = (
    ray.exceptions.RayActorError,
    ray.serve.exceptions.DeploymentUnavailableError,
    ray.serve.exceptions.ReplicaUnavailableError,
)


class ControllerLink:
    """An ingress's side of what it has with the controller: a copy of the catalogue, and its shares of the bounds.

    ``ingress`` is the name of its actor in Ray.
    """

    def __init__(self, ingress: str, controller: DeploymentHandle, replicas: DeploymentHandle) -> None:
        self.ingress = ingress
        self.replicas = ReplicaGroup(replicas)
        self.shares = Shares(self._ask)
        self.router = Router(Catalog({}), self, self._answered)
        self.nodes: frozenset[str] = frozenset()
        self._controller = controller
        self._asked = asyncio.Event()
        self._opened = asyncio.Event()
        self._revision = 0
        self._number = 0
        self._syncing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The short name of this ingress, for logs and metrics."""
        return short_name(self.ingress)

    def open(self) -> None:
        """Begin to report, in the event loop that calls this."""
        self._syncing = asyncio.create_task(self._sync_all())

    async def opened(self) -> None:
        """Return once there is a catalogue to answer by."""
        await self._opened.wait()

    def close(self) -> None:
        """Stop to report."""
        if self._syncing is not None:
            self._syncing.cancel()

    async def describe(self, version: Version) -> Described:
        """Return what must be known of a version. Which files one without a fingerprint is, the controller decides."""
        if version.fingerprint:
            return await self.replicas.describe(version)
        described: Described = await _again(lambda: self._controller.pin.remote(version))
        return described

    async def held(self) -> list[Held]:
        """Return what each replica holds."""
        return await _again(lambda: self._controller.held.remote())

    async def states(self) -> list[VersionState]:
        """Return all versions of all names, with their requests on all ingresses."""
        return await _again(lambda: self._controller.states.remote())

    async def change(self, verb: str, name: str, request: RolloutRequest) -> Steps:
        """Have the controller change a name, step by step; see ``Rollout.alone``."""
        steps = self._controller.options(stream=True).change.remote(verb, name, request)
        try:
            async for step in steps:
                yield step
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except _GONE:
            what = "the controller of the models ended during the change, and begins again: look what is served"
            raise ApiError(503, what, "controller_unavailable") from None
        finally:
            steps.cancel()

    def _ask(self) -> None:
        self._asked.set()

    def _answered(self, version: Version) -> None:
        if not self.router.catalog.uses(version):  # the controller waits for the last of them
            self._asked.set()

    async def _sync_all(self) -> None:
        while True:
            try:
                await self._sync()
            except Exception:
                logger.exception("an ingress and its controller do not understand each other")
                await asyncio.sleep(ANSWER_S)

    async def _sync(self) -> None:
        """Report once, and do what is answered. The answer is void once there is something else to report."""
        self._asked.clear()
        self._number += 1
        report = IngressReport(self.ingress, self._number, self._revision, self.router.usages, self.shares.report())
        answer = asyncio.ensure_future(_orders(self._controller, report))
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait({answer, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not answer.done():
            await asyncio.sleep(GAP_S)
            answer.add_done_callback(_seen)
            return
        if orders := answer.result():
            self._obey(orders)
        else:
            await asyncio.sleep(PAUSE_S)

    def _obey(self, orders: Orders) -> None:
        if orders.catalog is not None:
            self.router.catalog = orders.catalog
        self._revision, self.nodes = orders.revision, orders.nodes
        self.shares.obey(orders.shares, orders.full)
        self._opened.set()


def actor_name() -> str:
    """Return the name in Ray of the actor of the Serve replica that this process is."""
    return str(ray.serve.get_replica_context().replica_id.to_full_id_str())


def own_handle() -> DeploymentHandle:
    """Return a handle for all replicas of the deployment that this process is one of."""
    return ray.serve.get_deployment_handle(INGRESS, ray.serve.get_replica_context().app_name)


def short_name(actor: str) -> str:
    """Return what tells an ingress from the others of its endpoint."""
    return actor.rpartition("#")[2]


def _seen(answer: asyncio.Future[Orders | None]) -> None:
    with suppress(asyncio.CancelledError):
        answer.exception()


async def _orders(controller: DeploymentHandle, report: IngressReport) -> Orders | None:
    """Return the answer to a report, or None where no controller answers now."""
    try:
        async with asyncio.timeout(ANSWER_S):
            orders: Orders | None = await controller.sync.remote(report)
            return orders
    except (TimeoutError, *_GONE):
        return None


async def _again(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what is answered, if need be by the next controller. Raises ApiError 503 where none comes."""
    try:
        async with asyncio.timeout(AGAIN_S):
            while True:
                try:
                    return await ask()
                except _GONE:
                    await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        raise ApiError(503, "the controller of the models does not answer", "controller_unavailable") from None
