from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import av
import numpy as np
import openai
import psutil
import pytest

from asr.audio.decode import AudioLimits, encode_flac
from asr.audio.sounding import SAMPLE_BYTES
from asr.inference.pipeline import DecodedAudio, Watch, open_sound
from serve.errors import ApiError
from serve.ingress.limits.decode_lanes import SHORT_BYTES, THREADS, Lane, Lanes
from serve.ingress.limits.memory import SHORT_SAMPLES, SMALL_BYTES
from tests.processes import below
from tests.serve.conftest import ADMIN_KEY, KEY, FakeEndpoint
from tests.serve.fakes import voice
from tests.speed import WAIT_S

pytestmark = pytest.mark.medium

HOUR_S = 3600
CLIP = voice(1.0)
BLOCK = 65_535  # samples: the longest of FLAC


def squeezed(seconds: int, level: int = 0) -> bytes:
    """A FLAC file, 15 bytes for each four seconds, of a constant."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as media:
        options = {"compression_level": "0", "frame_size": str(BLOCK)}
        stream = media.add_stream("flac", rate=16_000, layout="mono", format="s16", options=options)
        for index in range(seconds * 16_000 // BLOCK):
            samples = np.full((1, BLOCK), level, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, index * BLOCK
            media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
    return buffer.getvalue()


def ask(fake: FakeEndpoint, upload: bytes, key: str = KEY) -> float:
    """Return how long an upload takes to be answered, in seconds; refusals are answers too."""
    begun = time.monotonic()
    with openai.OpenAI(base_url=f"{fake.url}/v1", api_key=key, max_retries=0, timeout=120.0) as client:
        try:
            client.audio.transcriptions.create(model="fake", file=("a.flac", upload))
        except openai.APIStatusError:
            assert upload is not CLIP
    return time.monotonic() - begun


def ingress(fake: FakeEndpoint) -> psutil.Process:
    """The process of the fake application's Api, which holds the samples."""
    [found] = below("ServeReplica:fake:Api")
    return found


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[int]]:
    """Yield a list that grows by the memory of a process, in bytes, every few milliseconds."""
    seen, over = [process.memory_info().rss], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.append(process.memory_info().rss)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(look)
        try:
            yield seen
        finally:
            over.set()


@pytest.mark.parametrize(("upload", "grows_mb"), [((3 * HOUR_S, 0), 150), ((HOUR_S // 3, 300), 450)])
def test_a_small_upload_of_hours_delays_nobody_and_takes_little_memory(
    fake: FakeEndpoint, upload: tuple[int, int], grows_mb: int
) -> None:
    hours, clips = squeezed(*upload), (KEY, ADMIN_KEY)
    assert len(hours) < 50_000
    alone_s = max(ask(fake, CLIP) for _ in range(4))
    with watched(ingress(fake)) as memory, ThreadPoolExecutor(6) as clients:
        attacks = [clients.submit(ask, fake, hours) for _ in range(4)]
        time.sleep(0.2)
        beside_s = list(clients.map(lambda key: ask(fake, CLIP, key), clips))
        assert max(beside_s) < 10 * max(alone_s, 0.3)  # 63 s before, or none within the endpoint's 10 s
        for attack in attacks:
            attack.result()
    assert max(memory) - memory[0] < grows_mb << 20


def test_keys_take_turns_however_much_one_sends() -> None:
    begun: list[str] = []
    gate = threading.Event()

    def noted(key: str) -> Callable[[], None]:
        def work() -> None:
            begun.append(key)
            gate.wait(5.0)
            if len(begun) == THREADS:
                gate.set()

        return work

    async def attack() -> None:
        lane = Lane("test")
        many = [asyncio.create_task(lane.run("many", noted("many"))) for _ in range(20)]
        await asyncio.sleep(0)
        one = asyncio.create_task(lane.run("one", noted("one")))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*many, one)

    asyncio.run(attack())
    assert begun.index("one") <= THREADS + 1


def test_who_leaves_the_line_or_fails_costs_no_thread() -> None:
    async def leave() -> None:
        lane, gate = Lane("test"), threading.Event()
        busy = [asyncio.create_task(lane.run("a", gate.wait)) for _ in range(THREADS)]
        waiting = [asyncio.create_task(lane.run("a", gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in (*waiting, busy[0]):
            task.cancel()
        gate.set()
        await asyncio.gather(*waiting, *busy, return_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            await lane.run("a", lambda: 1 // 0)
        both = threading.Barrier(THREADS)  # passes only where all threads are at it
        await asyncio.wait_for(
            asyncio.gather(*(lane.run("a", lambda: both.wait(WAIT_S)) for _ in range(THREADS))), WAIT_S
        )

    asyncio.run(leave())


def opened(lanes: Lanes, upload: bytes, key: str = "key") -> tuple[DecodedAudio, list[str]]:
    """Return what is made of an upload, and the threads that it was decoded in."""
    threads: list[str] = []

    def opening(watch: Watch) -> DecodedAudio:
        threads.append(threading.current_thread().name)
        return open_sound(upload, AudioLimits(max_audio_s=4 * HOUR_S), watch=watch)

    async def run() -> DecodedAudio:
        lease = lanes.memory.lease(key)
        sound, _ = await lanes.open(len(upload), lease, opening)
        return sound

    return asyncio.run(run()), [name.rsplit("_", 1)[0] for name in threads]


def test_what_turns_out_long_is_begun_anew_in_the_other_lane() -> None:
    lanes = Lanes(1 << 30)
    assert opened(lanes, CLIP)[1] == ["prepare-short"]
    sound, threads = opened(lanes, squeezed(90, 300))
    assert len(squeezed(90, 300)) < SHORT_BYTES
    assert threads == ["prepare-short", "prepare-long"]
    assert 85.0 < sound.duration_s < 90.0
    # The child that was stopped is asked again.
    assert opened(lanes, CLIP)[1] == ["prepare-short"]


def test_samples_are_counted_until_they_are_forgotten() -> None:
    lanes = Lanes(1 << 30)
    sound, _ = opened(lanes, voice(10.0))
    held = lanes.memory.nbytes
    assert 0 < held <= len(sound.waveform) * 4
    sound.forget(len(sound.waveform))
    assert lanes.memory.nbytes == 0


def test_what_does_not_fit_beside_others_is_told_to_come_again() -> None:
    lanes = Lanes(2 * SMALL_BYTES)
    sound, _ = opened(lanes, voice(70.0))
    with pytest.raises(ApiError) as refused:
        opened(lanes, squeezed(600, 300))
    assert refused.value.status == 429 and refused.value.retry_after_s
    assert lanes.memory.nbytes < 2 * SMALL_BYTES
    assert np.asarray(sound.waveform[-100:]).any()
    assert opened(lanes, encode_flac(np.zeros(16_000, np.float32)))[0].windows == []


@pytest.mark.slow
def test_a_key_whose_recordings_wait_left_no_memory_for_another_keys() -> None:
    lanes = Lanes(4 * SHORT_SAMPLES * SAMPLE_BYTES)
    waiting, _ = opened(lanes, voice(200.0), "greedy")
    held = lanes.memory.nbytes
    assert held > 3 * SHORT_SAMPLES * SAMPLE_BYTES
    assert 95.0 < opened(lanes, squeezed(100, 300), "guest")[0].duration_s < 100.0  # 429 before
    with pytest.raises(ApiError, match="try again later"):
        opened(lanes, squeezed(100, 300), "greedy")
    assert lanes.memory.nbytes == held
    waiting.forget(len(waiting.waveform))
    assert opened(lanes, squeezed(100, 300), "greedy")[0].windows == []
