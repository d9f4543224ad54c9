from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, encode_flac
from asr.errors import DataError
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodingOptions
from asr.inference.window_list import WindowList
from asr.sound import DEFAULT_CHOICE
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.ingress.limits.decode_lanes import Lanes
from serve.ingress.replica_channel import ReplicaChannel, no_nodes
from serve.ingress.service import Submission, TranscriptionService
from serve.ingress.telemetry.middleware import RequestContext
from serve.replica.transcriber import Transcriber
from tests.serve.fakes import FakeEngine, babble, voice
from tests.serve.inside import Handle, controlled, linked
from tests.serve.made import made


@asynccontextmanager
async def service(folder: Path, **settings: Any) -> AsyncIterator[TranscriptionService]:
    """One in front of a real replica with a fake engine; no HTTP anywhere."""
    config = ServeConfig(model="fake", **settings)
    (folder / "batches").write_text("")
    handle: Any = Handle(Transcriber(config, made(lambda config: FakeEngine(config, folder))))
    lanes = Lanes(config.max_decoded_bytes)
    link = linked(controlled(config, handle), handle)
    await link.opened()
    try:
        yield TranscriptionService(config, ReplicaChannel(handle, tuple, no_nodes), link.router, lanes, link.shares)
    finally:
        link.close()


def english(model: ModelInfo) -> DecodingOptions:
    return DecodingOptions("en")


async def words(ours: TranscriptionService, submission: Submission, known: RequestContext) -> list[str]:
    async with AsyncExitStack() as stack:
        await ours.room()
        upload = stack.enter_context(ours.admit("key"))
        upload.arrived()
        begun = await ours.begin(submission, upload, known, time.monotonic() + 60.0, stack)
        return [transcript.text async for _, transcript in begun.windows]


def test_a_recording_becomes_words_without_any_http(tmp_path: Path) -> None:
    async def ask() -> None:
        async with service(tmp_path) as ours:
            submission, known = Submission(voice(70.0), "fake", english, DEFAULT_CHOICE), RequestContext("r")
            said = await words(ours, submission, known)
            assert len(said) == 3 and all(said)
            assert (known.model, known.version) == ("fake", "stable")
            assert known.audio_s == pytest.approx(70.0, abs=0.1)
            assert submission.audio == b"", "an upload may be large"
            assert ours.admission.requests == 0 and ours.admission.audio_s == 0.0

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("submission", "error", "code"),
    [
        (Submission(b"no audio", "fake", english, DEFAULT_CHOICE), DataError, "not_audio"),
        (Submission(b"", "another", english, DEFAULT_CHOICE), ApiError, "model_not_found"),
    ],
)
def test_what_cannot_be_begun_leaves_nothing_in_flight(
    tmp_path: Path, submission: Submission, error: type[Exception], code: str
) -> None:
    async def ask() -> None:
        async with service(tmp_path) as ours:
            with pytest.raises(error) as refused:
                await words(ours, submission, RequestContext("r"))
            assert code in (getattr(refused.value, "code", ""), getattr(refused.value, "reason", ""))
            assert ours.admission.requests == 0

    asyncio.run(ask())


def test_a_long_recording_is_begun_before_all_of_it_is_cut(tmp_path: Path) -> None:
    quiet = np.zeros(60 * SAMPLE_RATE, np.float32)
    audio = encode_flac(np.concatenate([babble(70.0), quiet, babble(10.0)]))

    async def ask() -> None:
        async with service(tmp_path) as ours, AsyncExitStack() as stack:
            await ours.room()
            upload = stack.enter_context(ours.admit("key"))
            upload.arrived()
            submission = Submission(audio, "fake", english, DEFAULT_CHOICE)
            begun = await ours.begin(submission, upload, RequestContext("r"), time.monotonic() + 60.0, stack)
            assert isinstance(begun.sound.windows, WindowList) and not begun.sound.windows.complete
            assert upload.ticket.audio_s >= 140.0, "the rest counts as speech until it is cut"
            found = [window async for window, _ in begun.windows]
            assert begun.sound.windows.complete and found == begun.sound.windows and len(found) == 4
            assert begun.sound.silent_s == pytest.approx(60.0, abs=2.0)

    asyncio.run(ask())


def test_who_is_in_is_answered_before_it_has_drained_and_nobody_else_comes_in(tmp_path: Path) -> None:
    async def ask() -> None:
        async with service(tmp_path) as ours:
            submission = Submission(voice(40.0), "fake", english, DEFAULT_CHOICE)
            inside = asyncio.create_task(words(ours, submission, RequestContext("r")))
            while not ours.admission.requests:
                await asyncio.sleep(0)
            draining = asyncio.create_task(ours.drain(0.001))
            await asyncio.sleep(0)
            with pytest.raises(ApiError) as refused:
                ours.admit("late")
            assert refused.value.status == 503
            await draining
            assert inside.done() and len(await inside) == 2

    asyncio.run(ask())
