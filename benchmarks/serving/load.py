"""The clients: requests over HTTP, each sent when the last was answered, or when its time has come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from benchmarks.serving.speech import Spoken

TIMEOUT_S = 1200.0
FAILURES = (RuntimeError, aiohttp.ClientError, TimeoutError)  # what ``ask`` raises where there is no answer


@dataclass(frozen=True)
class Heard:
    """Transcripts and latencies in seconds, in the order of the files, and how long all took.

    A file without an answer has an empty text, and its number is in ``errors``, with the reason.
    """

    seconds: float
    texts: list[str]
    latencies_s: list[float]
    errors: dict[int, str] = field(default_factory=dict)


def saturating(url: str, speech: Sequence[Spoken], clients: int, language: str) -> Heard:
    """Have ``clients`` ask without pause, each when it has its answer, until every file has been asked for.

    A closed loop: how much can be done.
    """
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
    errors: dict[int, str] = {}
    async with open_session() as session:

        async def client() -> None:
            while waiting:
                number, spoken = waiting.popleft()
                sent = time.perf_counter()
                try:
                    texts[number] = await ask(session, url, spoken, language)
                except FAILURES as error:
                    errors[number] = repr(error)[:300]
                latencies_s[number] = time.perf_counter() - sent

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return Heard(time.perf_counter() - begun, texts, latencies_s, errors)


async def _speaking(url: str, speech: Sequence[Spoken], clients: int, language: str) -> Heard:
    errors: dict[int, str] = {}
    async with open_session() as session:
        begun = time.perf_counter()

        async def clip(number: int, spoken: Spoken, due_s: float) -> tuple[str, float]:
            await asyncio.sleep(begun + due_s - time.perf_counter())
            text = ""
            try:
                text = await ask(session, url, spoken, language)
            except FAILURES as error:
                errors[number] = repr(error)[:300]
            return text, time.perf_counter() - begun - due_s

        times = due([spoken.duration_s for spoken in speech], clients)
        answers = await asyncio.gather(*map(clip, range(len(speech)), speech, times))
        texts, latencies_s = [text for text, _ in answers], [late_s for _, late_s in answers]
        return Heard(time.perf_counter() - begun, texts, latencies_s, errors)


def open_session() -> aiohttp.ClientSession:
    """Return a session without a limit on connections."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=aiohttp.TCPConnector(limit=0)
    )


async def ask(session: aiohttp.ClientSession, url: str, spoken: Spoken, language: str) -> str:
    """Return an endpoint's transcript of a file. Raises RuntimeError where it answers anything but 200."""
    form = aiohttp.FormData({"model": "whisper-1", "language": language})
    form.add_field("file", spoken.path.read_bytes(), filename="clip.flac", content_type="audio/flac")
    async with session.post(f"{url}/v1/audio/transcriptions", data=form) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {(await answer.text())[:300]}")
        return str((await answer.json())["text"])
