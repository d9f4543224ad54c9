"""Ray Serve deployment that holds the models: queues the windows of all requests and decodes them in batches."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import ray
import ray.serve

from asr.audio.decode import SAMPLE_RATE
from asr.errors import UserError
from asr.inference.engine import Engine, decode_together
from asr.inference.isolation import MAX_FAILURES, each_on_its_own
from asr.inference.model_info import ModelInfo
from asr.transcript import DecodingRequest, Transcript
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.models.catalog import opened
from serve.models.version import ArtifactInfo, Described, Held, Version
from serve.replica.autoscaling import QUEUED_AUDIO, autoscaling
from serve.replica.engine_loader import MakeLoader
from serve.replica.engine_pool import EnginePool
from serve.replica.model_cache import ModelCache, ModelLease
from serve.replica.scheduler import FairScheduler, QueuedWindow
from serve.replica.window_result import BatchInfo, WindowResult

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class _Asked:
    """A queued clip, its model, its time of arrival, and the future of its answer."""

    clip: DecodingRequest
    lease: ModelLease
    since: float
    answer: asyncio.Future[WindowResult]


class Transcriber:
    """A replica. It is ready when the default model is, because that is loaded in the constructor.

    Each window names the version that transcribes it, so that a replica needs no other message: it loads versions on
    demand.
    """

    def __init__(self, config: ServeConfig, make_loader: MakeLoader = EnginePool) -> None:
        self._model_cache = ModelCache(make_loader(config), config.memory_gb)
        catalog = opened(config)
        self._default = self._model_cache.put(catalog.entries[catalog.default].stable)
        self._node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        self._budget_s = config.max_batch_audio_s
        self._wait_s = config.batch_wait_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")  # off the event loop, one batch at a time
        self._scheduler: FairScheduler[_Asked] = FairScheduler()
        self._decoding: asyncio.Task[None] | None = None
        self._decoding_audio_s = 0.0
        self._failures = 0

    async def describe(self, version: Version | None = None) -> Described:
        """Return the facts about a version, or the default; an answer also shows that the replica is alive.

        Raises ApiError 503 if it cannot be loaded.
        """
        try:
            return await self._model_cache.describe(version or self._default)
        except UserError as error:
            raise _unavailable() from error

    async def inspect(self, artifact: str) -> ArtifactInfo:
        """Verify an artifact as this machine finds it. Raises UserError."""
        return await self._model_cache.inspect(artifact)

    async def load(self, version: Version) -> Described:
        """Load a version, and decode a second of silence with it if it was not loaded. Raises UserError."""
        is_new = not self._model_cache.holds(version)
        lease = await self._model_cache.lease(version)
        with lease as engine:
            described = Described(lease.version, engine.info, engine.nbytes)
            if is_new:
                try:
                    await self._transcribe(warm_up(engine.info), lease, uuid.uuid4().hex, 0)
                except Exception as error:
                    raise UserError(f"{version.artifact} loads but cannot decode: {error!r}") from None
        return described

    async def drop(self, version: Version) -> None:
        """Unload a version when its windows are answered; a later request loads it again."""
        await self._model_cache.remove(version)

    def held(self) -> Held:
        """Return the versions that are loaded here."""
        return replace(self._model_cache.held(), node=self._node)

    async def transcribe(
        self,
        clip: DecodingRequest,
        request: str = "",
        position: int = 0,
        within_s: float | None = None,
        version: Version | None = None,
        key: str = "",
    ) -> WindowResult:
        """Transcribe one window, in a batch with other queued ones; windows of one ``request`` share its turns.

        Requests of one ``key`` share those of the key.

        A window that is cancelled, or not answered ``within_s`` seconds, leaves the queue. Raises TimeoutError then,
        ApiError 503 where the version cannot be loaded, or what the engine raised.
        """
        async with asyncio.timeout(within_s):
            try:
                lease = await self._model_cache.lease(version or self._default)
            except UserError as error:
                raise _unavailable() from error
            with lease:
                return await self._transcribe(clip, lease, request or uuid.uuid4().hex, position, key)

    async def transcribed(
        self, clip: DecodingRequest, request: str, position: int, within_s: float, version: Version, key: str
    ) -> AsyncGenerator[WindowResult]:
        """Yield what ``transcribe`` returns: by gRPC, only of a stream Serve says at its begin that it is taken."""
        yield await self.transcribe(clip, request, position, within_s, version, key)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the figure that Serve's controller scales by: the audio queued or being decoded here."""
        return {QUEUED_AUDIO: self._scheduler.audio_s + self._decoding_audio_s}

    def check_health(self) -> None:
        """Raise once decoding has failed several times in a row: Serve then replaces the replica."""
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"the last {self._failures} batches all failed")

    async def _transcribe(
        self, clip: DecodingRequest, lease: ModelLease, request: str, position: int, key: str = ""
    ) -> WindowResult:
        answer: asyncio.Future[WindowResult] = asyncio.get_running_loop().create_future()
        engine = lease.engine
        audio_s = engine.info.encoder_s(clip)
        asked = _Asked(clip, lease, time.monotonic(), answer)
        window = QueuedWindow(asked, request, position, audio_s, engine.group, key)
        self._scheduler.put(window)
        if self._decoding is None or self._decoding.done():
            self._decoding = asyncio.create_task(self._decode_all())
        try:
            return await answer
        finally:
            self._scheduler.withdraw(window)

    async def _decode_all(self) -> None:
        """Decode until the queue is empty. Each batch is formed in its turn, of all windows queued then."""
        await asyncio.sleep(self._wait_s)
        while windows := self._scheduler.take(self._budget_s):
            self._decoding_audio_s = sum(window.audio_s for window in windows)
            try:
                with ExitStack() as used:  # who asked may leave while the engine is at it
                    for window in windows:
                        used.enter_context(window.item.lease)
                    await self._decode([window.item for window in windows])
            finally:
                self._decoding_audio_s = 0.0

    async def _decode(self, asked: Sequence[_Asked]) -> None:
        begun = time.monotonic()
        tasks = [(one.lease.engine, one.clip) for one in asked]
        outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, tasks)
        del tasks  # a model that is unloaded has no other users
        batch: BatchInfo | None = BatchInfo(len(asked), self._decoding_audio_s, time.monotonic() - begun)
        for one, outcome in zip(asked, outcomes, strict=True):
            if one.answer.done():  # nobody waits for it any more
                continue
            if isinstance(outcome, Exception):
                one.answer.set_exception(outcome)
            else:
                one.answer.set_result(WindowResult(outcome, begun - one.since, batch))
                batch = None

    def _outcomes(self, tasks: Sequence[tuple[Engine, DecodingRequest]]) -> list[Transcript | Exception]:
        return each_on_its_own(self._decode_together, tasks, self._failed)

    def _decode_together(self, tasks: Sequence[tuple[Engine, DecodingRequest]]) -> list[Transcript]:
        transcripts = decode_together([engine for engine, _ in tasks], [clip for _, clip in tasks])
        self._failures = 0
        return transcripts

    def _failed(self, error: Exception) -> Exception:
        logger.exception("decoding failed")
        self._failures += 1
        return error


def warm_up(info: ModelInfo) -> DecodingRequest:
    """Return a clip that warms a model up: it makes all the work of any other clip."""
    return DecodingRequest(info.features(np.zeros(SAMPLE_RATE, np.float32)), info.language)


def _unavailable() -> ApiError:
    """Return the error for the client; the reason names folders, and is in the replica's log."""
    return ApiError(503, "this model cannot be loaded now", "model_unavailable", "model")


def replicas(config: ServeConfig, make_loader: MakeLoader = EnginePool) -> ray.serve.Application:
    """Return the deployment of ``config.replicas`` replicas, without an ingress."""
    count = config.replicas
    fixed = count.min == count.max
    return ray.serve.deployment(
        Transcriber,
        name="Transcriber",
        **{"num_replicas": count.min} if fixed else {"autoscaling_config": autoscaling(config)},
        ray_actor_options={"num_cpus": config.threads} | ({"num_gpus": config.gpu} if config.gpu else {}),
        # Windows, not requests: max_queued_audio_s bounds the queue.
        max_ongoing_requests=10_000,
        max_constructor_retry_count=1,
    ).bind(config, make_loader)
