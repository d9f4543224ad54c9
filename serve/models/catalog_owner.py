"""Owner of the catalogue: a change of it is kept first, and has happened once every ingress answers by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from serve.errors import ApiError
from serve.models.catalog import Catalog
from serve.models.catalog_store import CatalogStore
from serve.models.members import Members
from serve.models.messages import Usage
from serve.models.replica_group import ReplicaGroup
from serve.models.version import Described, Version

TAKEN_UP_S = 60.0  # an ingress takes a change up in milliseconds; one whose node was cut off is dead to Ray by then


class CatalogOwner:
    """The endpoint's public names. The ingresses hold copies of ``catalog``, which ``members`` answer by."""

    def __init__(self, store: CatalogStore, members: Members, replica_group: ReplicaGroup) -> None:
        self._store = store
        self._members = members
        self._replica_group = replica_group
        self._changing = asyncio.Lock()

    @property
    def catalog(self) -> Catalog:
        """Catalogue of the names as they are now."""
        return self._store.catalog

    @property
    def revision(self) -> int:
        """The number of this catalogue; it grows with each change."""
        return self._store.revision

    @property
    def ingresses(self) -> frozenset[str]:
        """The ingresses that may hold a copy, or shares, of this controller's or one before."""
        return self._store.ingresses

    async def change(self, catalog: Catalog) -> None:
        """Let requests go other ways, and return when no ingress answers by the catalogue before.

        Raises UserError, and changes nothing, where it cannot be kept; ApiError 503 where an ingress lives and does
        not take it up.
        """
        await self._whole(partial(self._store.change, catalog, True))
        revision = self.revision
        try:
            async with asyncio.timeout(TAKEN_UP_S):
                await self._members.answering_by(revision)
        except TimeoutError:
            late = ", ".join(self._members.behind(revision))
            what = f"the change is made, but an ingress has not taken it up and may answer as before: {late}"
            raise ApiError(503, what, "ingress_unavailable") from None

    async def pin(self, version: Version) -> Described:
        """Return what must be known of a version; one that came without a fingerprint has it from now on."""
        described = await self._replica_group.describe(version)
        await self._whole(partial(self._pin, described.version))
        return described

    async def note(self, joined: str, left: frozenset[str]) -> None:
        """Keep the name of another ingress, without those that have died."""
        await self._whole(partial(self._store.note, joined, left))

    async def gone(self, version: Version) -> None:
        """Return when no request that came before is answered by a version any more, on any ingress."""
        await self._members.without(version, self.revision)

    def usage(self, version: Version) -> Usage:
        """Return what a version was asked for, on all ingresses."""
        return self._members.usage(version)

    def _pin(self, version: Version) -> None:
        pinned = self.catalog.pinned(version)
        if pinned != self.catalog:
            self._store.change(pinned, False)

    async def _whole(self, write: Callable[[], None]) -> None:
        """Write alone, to the end and for all to see, even where nobody waits for it any more."""
        await asyncio.shield(self._alone(write))

    async def _alone(self, write: Callable[[], None]) -> None:
        async with self._changing:
            await asyncio.get_running_loop().run_in_executor(None, write)
        self._members.wake()
