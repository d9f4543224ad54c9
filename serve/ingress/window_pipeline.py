"""Pipeline of a recording's windows to the replicas, and of their transcripts back in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from asr.inference.language_id import LanguageVote
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodedAudio, DecodingOptions, prepared
from asr.inference.recording import Window, WindowTranscript
from asr.transcript import DecodingRequest, FeatureArray, Transcript

Send = Callable[[DecodingRequest], Awaitable[Transcript]]


@dataclass(frozen=True)
class _Ready:
    """A window and its features [M, T]."""

    window: Window
    features: FeatureArray


class WindowPipeline:
    """Prepares windows in ``threads`` and sends each as soon as it is ready, at most ``ahead`` before the answer's.

    What is ahead of the answer takes memory and, in the replicas, the place of others.
    """

    def __init__(self, send: Send, threads: Executor, ahead: int) -> None:
        self._send = send
        self._threads = threads
        self._line: asyncio.Queue[tuple[Window, asyncio.Task[Transcript]] | Exception | None] = asyncio.Queue(ahead)
        self._tasks: set[asyncio.Task[Transcript]] = set()

    async def transcribe(
        self, sound: DecodedAudio, options: DecodingOptions, model: ModelInfo
    ) -> AsyncGenerator[WindowTranscript]:
        """Yield windows with their transcripts in the order of the recording.

        Closed, cancelled or failed, it withdraws what was not yet begun. Raises what preparing or decoding raised.
        """
        feeding = asyncio.create_task(self._feed(sound, options, model))
        try:
            while (item := await self._line.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                window, task = item
                transcript = await task
                self._tasks.discard(task)
                yield window, transcript
        finally:
            left: list[asyncio.Task[None] | asyncio.Task[Transcript]] = [feeding, *self._tasks]
            for each in left:
                each.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _feed(self, sound: DecodedAudio, options: DecodingOptions, model: ModelInfo) -> None:
        end: Exception | None = None
        try:
            await self._send_all(sound, options, model)
        except Exception as error:
            end = error
        await self._line.put(end)

    async def _send_all(self, sound: DecodedAudio, options: DecodingOptions, model: ModelInfo) -> None:
        loop = asyncio.get_running_loop()
        ready = prepared(sound, model)
        language = LanguageVote(options.language, options.language_per_window)
        leaders: list[_Ready] = []
        there = sound.first is not None
        while found := next(ready, None) if there else await loop.run_in_executor(self._threads, next, ready, None):
            one, there = _Ready(*found), False
            if language.settled:
                await self._put(one, self._sent(one, options, language))
                continue
            leaders.append(one)
            if len(leaders) == language.at_once(len(leaders)):
                await self._lead(leaders, options, language)
                leaders = []
        await self._lead(leaders, options, language)

    async def _lead(self, leaders: Sequence[_Ready], options: DecodingOptions, language: LanguageVote) -> None:
        """Let the first windows decide in which language the recording is decoded."""
        tasks = [self._sent(one, options, language) for one in leaders]
        transcripts = await asyncio.gather(*tasks)
        wrong = language.count([one.window for one in leaders], transcripts)
        for place, (one, task) in enumerate(zip(leaders, tasks, strict=True)):
            await self._put(one, self._sent(one, options, language) if place in wrong else task)

    def _sent(self, one: _Ready, options: DecodingOptions, language: LanguageVote) -> asyncio.Task[Transcript]:
        clip = options.clip(one.features, language.language)

        async def send() -> Transcript:
            return await self._send(clip)

        task = asyncio.create_task(send())
        self._tasks.add(task)  # until its transcript is taken, so that none fails unseen
        return task

    async def _put(self, one: _Ready, task: asyncio.Task[Transcript]) -> None:
        await self._line.put((one.window, task))
