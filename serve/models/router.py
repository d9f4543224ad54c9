"""Router of an ingress's requests to versions, and the count of requests that each version answers here now."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.responses import Response

from asr.inference.model_info import ModelInfo
from serve.errors import ApiError
from serve.models.catalog import Catalog
from serve.models.messages import Usage
from serve.models.version import Described, Role, Version

HEADER = "x-model-version"


Check = Callable[[ModelInfo], object]
"""Raises ApiError if a model cannot do what a request asks of it."""


@dataclass(frozen=True)
class Route:
    """A request's route: the public name, and the version that transcribes all of its windows."""

    name: str
    role: Role
    version: Version

    def named(self, response: Response) -> Response:
        """Return a response whose headers say which version answered."""
        response.headers[HEADER] = f"{self.role} {self.version.fingerprint}"
        return response


class Describer(Protocol):
    """Tells what must be known of a version, and which files one without a fingerprint stands for."""

    async def describe(self, version: Version) -> Described:
        """Return what is known. Raises ApiError 503 where it cannot be loaded."""


class Router:
    """The names of an endpoint, as this ingress was told last, and its requests.

    ``left`` is called with a version when a request of it has been answered.
    """

    def __init__(
        self,
        catalog: Catalog,
        describer: Describer,
        left: Callable[[Version], None] = lambda version: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.catalog = catalog
        self._describer = describer
        self._left = left
        self._clock = clock
        self._usage: dict[Version, Usage] = defaultdict(Usage)

    def route(self, asked: str, request_id: str) -> Route:
        """Return the way of a request. Raises ApiError 404 for a model that is not here."""
        name = self.catalog.name(asked)
        version, role = self.catalog.entries[name].drawn(request_id)
        return Route(name, role, version)

    async def able_route(self, asked: str, request_id: str, check: Check) -> Route:
        """Return the way of a request; it is the stable version's too where a canary would answer in another way.

        A candidate gets what both can do: what it cannot, the stable version goes on doing, and what that one cannot
        is refused to everybody, whatever their id. Raises ApiError 404 for a model that is not here.
        """
        drawn = self.route(asked, request_id)
        if drawn.role == "stable":
            return drawn
        refused = await self._refuses(self._stable(drawn.name), check) or await self._refuses(drawn, check)
        now = self.route(asked, request_id)  # what the name stands for may have changed meanwhile
        return self._stable(now.name) if refused else now

    def _stable(self, name: str) -> Route:
        return Route(name, "stable", self.catalog.entries[name].stable)

    async def _refuses(self, route: Route, check: Check) -> bool:
        try:
            _, model = await self.info(route)
        except ApiError:  # it cannot be loaded, which has its own answer
            return False
        try:
            check(model)
        except ApiError:
            return True
        return False

    @contextmanager
    def present(self, route: Route) -> Iterator[None]:
        """Count a request for the length of a block."""
        usage = self._usage[route.version]
        usage.requests += 1
        usage.present += 1
        usage.last = self._clock()
        try:
            yield
        finally:
            usage.present -= 1
            usage.last = self._clock()
            self._left(route.version)

    async def info(self, route: Route) -> tuple[Route, ModelInfo]:
        """Return what must be known of the model, under its public name, and the way with the files' fingerprint."""
        described = await self.pin(route.version)
        return replace(route, version=described.version), replace(described.info, name=route.name)

    async def pin(self, version: Version) -> Described:
        """Return what must be known of a version; one that came without a fingerprint has it from now on."""
        described = await self._describer.describe(version)
        if described.version != version:
            self.catalog = self.catalog.pinned(described.version)
            usage = self._usage.pop(version, None)
            if usage is not None:  # the same object, because requests that are here will leave it
                self._usage.setdefault(described.version, usage)
        return described

    @property
    def usages(self) -> dict[Version, Usage]:
        """Usage of each version here."""
        return {version: replace(usage) for version, usage in self._usage.items()}
