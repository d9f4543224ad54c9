"""Model cache of a replica: loads models on demand within a budget, and drops the least recently used one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from asr.errors import UserError
from asr.inference.engine import Engine
from serve.config import GB
from serve.models.version import ArtifactInfo, Described, Held, Version
from serve.replica.engine_loader import EngineLoader

logger = logging.getLogger("ray.serve")

# What does not load is not tried again for every window: reading gigabytes to refuse them holds up other loads.
REFUSED_FOR_S = 15.0

Clock = Callable[[], float]


class ModelLease:
    """A version's entry in the cache. ``with lease:`` uses its engine, which stays loaded meanwhile."""

    def __init__(self, version: Version, engine: Engine, clock: Clock) -> None:
        self.version = version
        self.engine = engine
        self.used_at = clock()
        self.users = 0
        self._clock = clock
        self._free = asyncio.Event()
        self._free.set()

    def __enter__(self) -> Engine:
        self.users += 1
        self._free.clear()
        return self.engine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.users -= 1
        self.used_at = self._clock()
        if not self.users:
            self._free.set()

    async def free(self) -> None:
        """Wait until nobody uses it."""
        await self._free.wait()


class ModelCache:
    """Cache of versions, loaded on demand. It runs in one event loop; loading and unloading have a thread of their own.

    A version that has to be unloaded takes no new users, and is unloaded when its last user has gone; a request for it
    meanwhile waits until it is loaded again. Loads run one after the other, in the order of requests: with more models
    in use than the budget holds, all requests are served in turn, though slowly.
    """

    def __init__(self, loader: EngineLoader, budget_gb: float = 0.0, clock: Clock = time.monotonic) -> None:
        self._loader = loader
        self._budget = budget_gb * GB or float("inf")
        self._clock = clock
        self._leases: dict[Version, ModelLease] = {}
        self._sizes: dict[Version, int] = {}
        self._nbytes = 0
        self._loading: dict[Version, asyncio.Task[None]] = {}
        self._refused: dict[Version, tuple[float, UserError]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")

    def put(self, version: Version) -> Version:
        """Load a version at once, before there is an event loop. Raises UserError."""
        found = self._shelve(*self._loader.load(version))
        if self._nbytes > self._budget:
            raise self._too_large(version)
        return found

    async def lease(self, version: Version) -> ModelLease:
        """Return the lease of a version, loaded first if needed. Enter it before anything is awaited.

        Raises UserError where the version cannot be loaded.
        """
        while (lease := self._find(version)) is None:
            self._check_refused(version)
            task = self._loading.get(version)
            if task is None:
                task = self._loading[version] = asyncio.create_task(self._load(version))
                task.add_done_callback(lambda done: self._loading.pop(version) and done.exception())
            await asyncio.shield(task)  # who leaves does not end a load that others wait for
        return lease

    async def describe(self, version: Version) -> Described:
        """Return the facts about a version, loaded first if needed. Raises UserError."""
        lease = await self.lease(version)
        return Described(lease.version, lease.engine.info, lease.engine.nbytes)

    async def remove(self, version: Version) -> None:
        """Unload a version when its users have gone; do nothing if it is not loaded."""
        await asyncio.shield(asyncio.create_task(self._remove(version)))  # half unloaded it would never be found again

    async def _remove(self, version: Version) -> None:
        async with self._one_at_a_time:
            if (lease := self._find(version)) is not None:
                await self._unload(lease)

    async def inspect(self, artifact: str) -> ArtifactInfo:
        """Verify an artifact. Raises UserError."""
        self._refused = {}  # an admin manages the models: what was refused may be mended
        return await asyncio.get_running_loop().run_in_executor(None, self._loader.inspect, artifact)

    def holds(self, version: Version) -> bool:
        """Return whether a version is loaded."""
        return self._find(version) is not None

    def held(self) -> Held:
        """Return the loaded versions and their bytes."""
        return Held({version: lease.engine.nbytes for version, lease in self._leases.items()}, self._nbytes)

    def _find(self, version: Version) -> ModelLease | None:
        if version in self._leases:
            return self._leases[version]
        return next((lease for held, lease in self._leases.items() if version.is_met_by(held)), None)

    def _check_refused(self, version: Version) -> None:
        since, error = self._refused.get(version, (0.0, None))
        if error is not None and self._clock() - since < REFUSED_FOR_S:
            raise error

    async def _load(self, version: Version) -> None:
        async with self._one_at_a_time:
            try:
                await self._load_alone(version)
            except Exception as error:
                if isinstance(error, UserError):
                    logger.error("%s cannot be loaded: %s", version, error)
                    fault = UserError(error.message, error.hint)
                else:
                    logger.exception("%s cannot be loaded", version)
                    fault = UserError(f"{version.artifact} cannot be loaded: {type(error).__name__}, see the log")
                self._refused[version] = self._clock(), fault
                raise fault from None

    async def _load_alone(self, version: Version) -> None:
        loop = asyncio.get_running_loop()
        await self._make_room(await loop.run_in_executor(self._thread, self._expected, version))
        found = self._shelve(*await loop.run_in_executor(self._thread, self._loader.load, version))
        await self._make_room(0, but=found)
        if self._nbytes > self._budget:
            fault = self._too_large(version)
            await self._unload(self._leases[found])
            raise fault

    def _too_large(self, version: Version) -> UserError:
        size, budget = self._nbytes / GB, self._budget / GB
        return UserError(f"{version.artifact} takes {size:.2f} GB, and memory_gb is {budget:g}", "raise memory_gb")

    def _expected(self, version: Version) -> int:
        """Estimate the memory of a version: its size, once it was loaded; files may be far larger than that."""
        if self._budget == float("inf"):
            return 0
        known = next((size for held, size in self._sizes.items() if version.is_met_by(held)), None)
        if known is not None:
            return known
        largest = max((lease.engine.nbytes for lease in list(self._leases.values())), default=0)
        return min(self._loader.expected_nbytes(version), largest)

    async def _make_room(self, nbytes: int, but: Version | None = None) -> None:
        while self._nbytes + nbytes > self._budget:
            others = [lease for held, lease in self._leases.items() if held != but]
            if not others:
                return
            # the least recently used of those that nobody uses; else of all, once its users have gone
            await self._unload(min(others, key=lambda lease: (lease.users > 0, lease.used_at)))

    async def _unload(self, lease: ModelLease) -> None:
        del self._leases[lease.version]  # no new users
        await lease.free()
        engine = lease.engine
        del lease.engine
        await asyncio.get_running_loop().run_in_executor(self._thread, self._loader.unload, engine)
        self._nbytes = self._loader.nbytes

    def _shelve(self, version: Version, engine: Engine) -> Version:
        self._leases[version] = ModelLease(version, engine, self._clock)
        self._sizes[version] = engine.nbytes
        self._nbytes = self._loader.nbytes  # kept, because a loader that is loading does not answer
        return version
