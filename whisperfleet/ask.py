"""Client of our own endpoint that works as any customer's: with the official ``openai`` package."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from asr.utterance import Utterance
from serve.app import running, served
from serve.config import ServeConfig


@dataclass(frozen=True)
class EndpointAnswer:
    """The endpoint's answer to one clip: a text, or the error that came instead."""

    id: str
    reference: str
    text: str | None
    error: str
    seconds: float


def ask(
    model: str, clips: Sequence[Utterance], on_ready: Callable[[ModelInfo], None] = lambda info: None
) -> list[EndpointAnswer]:
    """Serve the artifact in folder ``model`` on loopback and send it all clips at once, so that they share batches.

    ``on_ready`` is told what runs it. Raises UserError where the client is not installed.
    """
    try:
        import openai  # an extra: only whoever asks needs a client
    except ImportError:
        raise UserError("the openai client is not installed", "pip install 'whisperfleet[client]'") from None
    config = ServeConfig(model=str(Path(model).resolve()), port=0)
    with running(config) as url:
        on_ready(served())
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none-needed", max_retries=0)

        def one(clip: Utterance) -> EndpointAnswer:
            started = time.perf_counter()
            try:
                text = client.audio.transcriptions.create(model=config.public_name, file=Path(str(clip.audio))).text
                return EndpointAnswer(clip.id, clip.text, text, "", time.perf_counter() - started)
            except openai.OpenAIError as error:
                return EndpointAnswer(clip.id, clip.text, None, str(error), time.perf_counter() - started)

        with ThreadPoolExecutor(len(clips)) as pool:
            return list(pool.map(one, clips))
