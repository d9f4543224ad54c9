from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from threading import Event
from typing import Any

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from asr.audio.features import LogMel
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodedAudio, DecodingOptions
from asr.inference.recording import Window, WindowTranscript
from asr.transcript import DecodingRequest, Transcript
from serve.ingress.window_pipeline import WindowPipeline
from tests.serve.fakes import LANGUAGES
from tests.speed import WAIT_S

MODEL = ModelInfo("fake", LANGUAGES, None, "full", LogMel(WhisperFeatureExtractor().mel_filters))
SILENCE = np.zeros(100 * 16_000, np.float32)


def sound(*seconds: int) -> DecodedAudio:
    """Windows of so many seconds each, end to end."""
    ends = np.cumsum(seconds) * 16_000
    return DecodedAudio(
        SILENCE, [Window(end - 16_000 * length, end) for end, length in zip(ends, seconds, strict=True)]
    )


def seconds_of(clip: DecodingRequest) -> int:
    return round(clip.features.shape[1] / 100)


def heard_by(
    transcribe: Callable[[DecodingRequest], Awaitable[Transcript]],
    given: DecodedAudio,
    asked: DecodingOptions,
    ahead: int = 8,
) -> Any:
    with ThreadPoolExecutor(2) as threads:

        async def collect() -> list[WindowTranscript]:
            return [each async for each in WindowPipeline(transcribe, threads, ahead).transcribe(given, asked, MODEL)]

        return asyncio.run(collect())


class Speakers:
    """Hears each window in the language it was asked for, else in that of ``spoken``, by its seconds."""

    def __init__(self, **spoken: list[int]) -> None:
        self.spoken = {seconds: language for language, lengths in spoken.items() for seconds in lengths}
        self.asked: list[tuple[int, str | None]] = []

    async def __call__(self, clip: DecodingRequest) -> Transcript:
        seconds = seconds_of(clip)
        self.asked.append((seconds, clip.language))
        language = clip.language or self.spoken.get(seconds, "en")
        return Transcript("" if language == "zh" else f"{seconds} {language}", (1,), language)


def test_transcripts_come_in_the_order_of_the_recording_whichever_is_done_first() -> None:
    async def slow_first(clip: DecodingRequest) -> Transcript:
        for _ in range(20 * (10 - seconds_of(clip))):
            await asyncio.sleep(0)
        return Transcript(str(seconds_of(clip)), (1,), "en")

    heard = heard_by(slow_first, sound(1, 2, 3, 4, 5), DecodingOptions("en"))
    assert [transcript.text for _, transcript in heard] == ["1", "2", "3", "4", "5"]
    assert [(window.end - window.start) // 16_000 for window, _ in heard] == [1, 2, 3, 4, 5]


def test_nothing_spoken_is_nothing_heard() -> None:
    assert heard_by(Speakers(), sound(), DecodingOptions()) == []


def test_one_language_is_found_for_the_whole_recording_and_misheard_windows_are_heard_again() -> None:
    speakers = Speakers(it=[9, 8], en=[3], zh=[])
    heard = heard_by(speakers, sound(9, 3, 8, 5, 4), DecodingOptions())
    assert [transcript.text for _, transcript in heard] == ["9 it", "3 it", "8 it", "5 it", "4 it"]
    assert sorted(speakers.asked[:3]) == [(3, None), (8, None), (9, None)]
    assert sorted(speakers.asked[3:]) == [(3, "it"), (4, "it"), (5, "it")]


def test_windows_in_which_nothing_is_heard_decide_nothing() -> None:
    speakers = Speakers(zh=[10, 11, 12], it=[5])  # what is Chinese comes back empty
    heard = heard_by(speakers, sound(10, 11, 12, 5, 4), DecodingOptions())
    assert [transcript.language for _, transcript in heard] == ["zh", "zh", "zh", "it", "it"]
    assert speakers.asked[-1] == (4, "it")  # heard in English, which is less than the Italian


def test_a_language_that_was_asked_for_is_never_detected() -> None:
    speakers = Speakers()
    heard_by(speakers, sound(9, 3, 8), DecodingOptions("it"))
    assert speakers.asked == [(9, "it"), (3, "it"), (8, "it")]


def test_each_window_has_its_own_language_on_request() -> None:
    speakers = Speakers(it=[9], en=[3])
    heard = heard_by(speakers, sound(9, 3, 8), DecodingOptions(language_per_window=True))
    assert [transcript.text for _, transcript in heard] == ["9 it", "3 en", "8 en"]


def test_a_window_is_sent_before_the_next_one_is_found() -> None:
    sent = Event()

    async def transcribe(clip: DecodingRequest) -> Transcript:
        sent.set()
        return Transcript(str(seconds_of(clip)), (1,), "en")

    def windows() -> Iterator[Window]:
        yield Window(0, 16_000)
        assert sent.wait(WAIT_S), "the second window is looked for while the first is not sent"
        yield Window(16_000, 48_000)

    heard = heard_by(transcribe, DecodedAudio(SILENCE, windows()), DecodingOptions("en"))
    assert [transcript.text for _, transcript in heard] == ["1", "2"]


def test_what_is_ahead_of_the_answer_is_bounded() -> None:
    running = most = 0

    async def transcribe(clip: DecodingRequest) -> Transcript:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return Transcript("", (), "en")

    heard_by(transcribe, sound(*[1] * 30), DecodingOptions("en"), ahead=4)
    assert most <= 4 + 2  # one more that waits for its place, one that the answer waits for


def test_a_listener_that_leaves_withdraws_the_rest() -> None:
    withdrawn: list[int] = []

    async def transcribe(clip: DecodingRequest) -> Transcript:
        try:
            await asyncio.sleep(0 if seconds_of(clip) == 1 else 60)
        except asyncio.CancelledError:
            withdrawn.append(seconds_of(clip))
            raise
        return Transcript("one", (1,), "en")

    async def leave() -> None:
        with ThreadPoolExecutor(2) as threads:
            transcribing = WindowPipeline(transcribe, threads, 8).transcribe(
                sound(1, 2, 3), DecodingOptions("en"), MODEL
            )
            async with aclosing(_generator(transcribing)) as heard:
                async for _, transcript in heard:
                    assert transcript.text == "one"
                    await asyncio.sleep(0.2)
                    break
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())
    assert sorted(withdrawn) == [2, 3]


def _generator(transcribing: AsyncIterator[WindowTranscript]) -> Any:
    return transcribing


@pytest.mark.parametrize("broken", [1, 3, 5])
def test_a_window_that_fails_fails_the_recording_and_nothing_lingers(broken: int) -> None:
    async def transcribe(clip: DecodingRequest) -> Transcript:
        if seconds_of(clip) >= broken:
            raise RuntimeError("a secret of the house")
        return Transcript("", (), "en")

    with pytest.raises(RuntimeError, match="secret"):
        heard_by(transcribe, sound(1, 2, 3, 4, 5, 6), DecodingOptions())


def test_features_that_fail_fail_the_recording() -> None:
    with pytest.raises(ValueError, match="do not fit the window"):
        heard_by(Speakers(), DecodedAudio(SILENCE, [Window(0, 16_000), Window(0, 31 * 16_000)]), DecodingOptions("en"))
