"""The Ray Serve deployment that holds a model: windows of all requests in one line, decoded batch after batch."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ray.serve

from asr.decode import Clip, Transcript, context_frames
from asr.features import FRAMES_PER_S, Context
from serve.autoscaling import QUEUED_AUDIO, autoscaling
from serve.config import ServeConfig
from serve.engine import Engine, ModelInfo
from serve.line import Line, Waiting

logger = logging.getLogger("ray.serve")

# A replica that fails so often in a row (a lost GPU, say) is replaced by Serve; one bad request alone is not enough.
MAX_FAILURES = 3

MakeEngine = Callable[[ServeConfig], Engine]


@dataclass(frozen=True)
class Batch:
    """What a batch was: its windows, their audio as the encoder saw it, and how long it took. In seconds."""

    windows: int
    audio_s: float
    seconds: float


@dataclass(frozen=True)
class Heard:
    """A transcript, how long its window stood in the line, and its batch: told to one window of each batch only."""

    transcript: Transcript
    waited_s: float
    batch: Batch | None


@dataclass(frozen=True)
class _Asked:
    """A clip in the line, since when, and the one who waits for it."""

    clip: Clip
    since: float
    answer: asyncio.Future[Heard]


def encoder_audio_s(clip: Clip, context: Context) -> float:
    """Return what a clip costs: the seconds of audio that the encoder sees."""
    return context_frames(clip.features.shape[1], context) / FRAMES_PER_S


class Transcriber:
    """A replica. It is ready when its model is, because the model is loaded in the constructor."""

    def __init__(self, config: ServeConfig, make_engine: MakeEngine) -> None:
        self._engine = make_engine(config)
        self._info = self._engine.info
        self._budget_s = config.max_batch_audio_s
        self._wait_s = config.batch_wait_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")  # off the event loop, one batch at a time
        self._line: Line[_Asked] = Line()
        self._decoding: asyncio.Task[None] | None = None
        self._decoding_audio_s = 0.0
        self._failures = 0

    def describe(self) -> ModelInfo:
        """Return what a request must know of the model; also the sign of a replica that answers."""
        return self._info

    async def transcribe(self, clip: Clip) -> Transcript:
        """Transcribe one window on its own account."""
        return (await self.hear(clip)).transcript

    async def hear(self, clip: Clip, request: str = "", position: int = 0, within_s: float | None = None) -> Heard:
        """Transcribe one window, in a batch with whatever else waits; windows of one ``request`` share its turns.

        A window that is cancelled, or not answered ``within_s`` seconds, leaves the line. Raises TimeoutError then, or
        what the engine raised.
        """
        answer: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        asked = _Asked(clip, time.monotonic(), answer)
        audio_s = encoder_audio_s(clip, self._info.context)
        window = Waiting(asked, request or uuid.uuid4().hex, position, audio_s)
        self._line.put(window)
        if self._decoding is None or self._decoding.done():
            self._decoding = asyncio.create_task(self._decode_all())
        try:
            async with asyncio.timeout(within_s):
                return await answer
        finally:
            self._line.withdraw(window)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what Serve's controller scales by: the audio that waits here or is being decoded."""
        return {QUEUED_AUDIO: self._line.audio_s + self._decoding_audio_s}

    def check_health(self) -> None:
        """Raise once decoding has failed several times in a row: Serve then replaces the replica."""
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"the last {self._failures} batches all failed")

    async def _decode_all(self) -> None:
        """Decode until the line is empty. Each batch is formed when its turn comes, of all that came meanwhile."""
        await asyncio.sleep(self._wait_s)
        while windows := self._line.take(self._budget_s):
            self._decoding_audio_s = sum(window.audio_s for window in windows)
            try:
                await self._decode([window.item for window in windows])
            finally:
                self._decoding_audio_s = 0.0

    async def _decode(self, asked: Sequence[_Asked]) -> None:
        begun = time.monotonic()
        clips = [one.clip for one in asked]
        outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, clips)
        batch: Batch | None = Batch(len(asked), self._decoding_audio_s, time.monotonic() - begun)
        for one, outcome in zip(asked, outcomes, strict=True):
            if one.answer.done():  # nobody waits for it any more
                continue
            if isinstance(outcome, Exception):
                one.answer.set_exception(outcome)
            else:
                one.answer.set_result(Heard(outcome, begun - one.since, batch))
                batch = None

    def _outcomes(self, clips: list[Clip]) -> list[Transcript | Exception]:
        """Decode a batch; where that fails, each clip on its own, so that one cannot fail its neighbours."""
        try:
            transcripts = self._engine.decode(clips)
        except Exception as error:
            if len(clips) > 1:
                return [outcome for clip in clips for outcome in self._outcomes([clip])]
            logger.exception("decoding failed")
            self._failures += 1
            return [error]
        self._failures = 0
        return list(transcripts)


def replicas(config: ServeConfig, make_engine: MakeEngine) -> ray.serve.Application:
    """Return the deployment of as many replicas as ``config.replicas`` says, without an ingress."""
    count = config.replicas
    fixed = count.min == count.max
    return ray.serve.deployment(
        Transcriber,
        name="Transcriber",
        **{"num_replicas": count.min} if fixed else {"autoscaling_config": autoscaling(config)},
        ray_actor_options={"num_cpus": config.threads} | ({"num_gpus": config.gpu} if config.gpu else {}),
        # Windows, not requests: what bounds the line is max_queued_audio_s.
        max_ongoing_requests=10_000,
        max_constructor_retry_count=1,
    ).bind(config, make_engine)
