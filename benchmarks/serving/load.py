"""The clients: requests over HTTP, each sent when the last was answered, or when its time has come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.serving.speech import Spoken

TIMEOUT_S = 1200.0


@dataclass(frozen=True)
class Heard:
    """What came back: texts and latencies in seconds in the order of the files, and how long it took in all."""

    seconds: float
    texts: list[str]
    latencies_s: list[float]


def saturating(url: str, speech: Sequence[Spoken], clients: int, language: str) -> Heard:
    """Have ``clients`` ask without pause until every file has been transcribed: how much can be done."""
    return asyncio.run(_saturating(url, speech, clients, language))


def speaking(url: str, speech: Sequence[Spoken], clients: int, language: str) -> Heard:
    """Have ``clients`` speak without pause, each sending a clip when it has been spoken, answered or not.

    An open loop: a slow endpoint gets no fewer requests, and a latency counts from when the clip was due.
    """
    return asyncio.run(_speaking(url, speech, clients, language))


def due(lengths_s: Sequence[float], clients: int) -> list[float]:
    """Return when each clip has been spoken, in seconds from the beginning: dealt to the clients in turn."""
    clocks = [0.0] * clients
    times = []
    for number, length_s in enumerate(lengths_s):
        clocks[number % clients] += length_s
        times.append(clocks[number % clients])
    return times


async def _saturating(url: str, speech: Sequence[Spoken], clients: int, language: str) -> Heard:
    waiting = deque(enumerate(speech))
    texts, latencies_s = [""] * len(speech), [0.0] * len(speech)
    async with open_session() as session:

        async def client() -> None:
            while waiting:
                number, spoken = waiting.popleft()
                sent = time.perf_counter()
                texts[number] = await ask(session, url, spoken, language)
                latencies_s[number] = time.perf_counter() - sent

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return Heard(time.perf_counter() - begun, texts, latencies_s)


async def _speaking(url: str, speech: Sequence[Spoken], clients: int, language: str) -> Heard:
    async with open_session() as session:
        begun = time.perf_counter()

        async def clip(spoken: Spoken, due_s: float) -> tuple[str, float]:
            await asyncio.sleep(begun + due_s - time.perf_counter())
            text = await ask(session, url, spoken, language)
            return text, time.perf_counter() - begun - due_s

        times = due([spoken.duration_s for spoken in speech], clients)
        answers = await asyncio.gather(*map(clip, speech, times))
        return Heard(time.perf_counter() - begun, [text for text, _ in answers], [late_s for _, late_s in answers])


def open_session() -> aiohttp.ClientSession:
    """Return a session without a limit on connections."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=aiohttp.TCPConnector(limit=0)
    )


async def ask(session: aiohttp.ClientSession, url: str, spoken: Spoken, language: str) -> str:
    """Return what an endpoint hears in a file. Raises RuntimeError where it answers anything but 200."""
    form = aiohttp.FormData({"model": "whisper-1", "language": language})
    form.add_field("file", spoken.path.read_bytes(), filename="clip.flac", content_type="audio/flac")
    async with session.post(f"{url}/v1/audio/transcriptions", data=form) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {(await answer.text())[:300]}")
        return str((await answer.json())["text"])
