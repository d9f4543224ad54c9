"""The Ray Serve deployment that holds a model: windows of all requests, batched by seconds of audio."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ray.serve

from asr.decode import Clip, Transcript, context_frames
from asr.features import FRAMES_PER_S
from serve.config import ServeConfig
from serve.engine import Engine, ModelInfo

logger = logging.getLogger("ray.serve")

# A replica that fails so often in a row (a lost GPU, say) is replaced by Serve; one bad request alone is not enough.
MAX_FAILURES = 3

MakeEngine = Callable[[ServeConfig], Engine]


@dataclass(frozen=True)
class Window:
    """A clip and what it costs the encoder, in seconds of audio."""

    clip: Clip
    audio_s: float


def batch_audio_s(windows: Sequence[Window]) -> int:
    """Return the size of a batch in whole seconds, as ``ray.serve.batch`` wants it."""
    return math.ceil(sum(window.audio_s for window in windows))


class Transcriber:
    """A replica. It is ready when its model is, because the model is loaded in the constructor."""

    def __init__(self, config: ServeConfig, make_engine: MakeEngine) -> None:
        self._engine = make_engine(config)
        self._info = self._engine.info
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")  # off the event loop, one batch at a time
        self._idle = asyncio.Event()
        self._idle.set()
        self._failures = 0
        self._decode.set_max_batch_size(int(config.max_batch_audio_s))
        self._decode.set_batch_wait_timeout_s(config.batch_wait_s)

    def describe(self) -> ModelInfo:
        """Return what a request must know of the model; also the sign of a replica that answers."""
        return self._info

    async def transcribe(self, clip: Clip) -> Transcript:
        """Transcribe one window, in a batch with whatever else is waiting."""
        # Ray goes on forming batches while one runs, one each batch_wait_s, and never merges them again: at 20
        # requests a second every batch would hold a single window. What waits here joins one batch afterwards.
        await self._idle.wait()
        audio_s = context_frames(clip.features.shape[1], self._info.context) / FRAMES_PER_S
        outcome = await self._decode(Window(clip, audio_s))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def check_health(self) -> None:
        """Raise once decoding has failed several times in a row: Serve then replaces the replica."""
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"the last {self._failures} batches all failed")

    @ray.serve.batch(batch_size_fn=batch_audio_s)
    async def _decode(self, windows: list[Window]) -> list[Transcript | Exception]:
        self._idle.clear()
        try:
            clips = [window.clip for window in windows]
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, clips)
        finally:
            self._idle.set()

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
