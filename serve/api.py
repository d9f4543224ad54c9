"""The HTTP face: OpenAI's audio API on FastAPI, as the ingress of the Serve application."""

# No `from __future__ import annotations`: Serve pickles the class by value, and FastAPI could not resolve the words.

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray.serve
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from ray.serve.handle import DeploymentHandle

from asr.audio import AudioLimits
from asr.decode import Clip, Transcript
from asr.errors import UserError
from serve.config import ServeConfig
from serve.engine import ModelInfo
from serve.errors import ApiError, install
from serve.form import TranscriptionForm, read_form
from serve.request import join, prepare, spoken_language

# Many programs that speak OpenAI's API have this name built in and offer no way to change it.
OPENAI_NAME = "whisper-1"

PREPARING_THREADS = 2  # an hour of audio takes some hundred MB while it is decoded: few at once
READY_TIMEOUT_S = 5.0

app = FastAPI(title="whisperfleet", openapi_url=None)  # the form is parsed by hand: a schema would show nothing of it
install(app)


@ray.serve.ingress(app)
class Api:
    """Takes requests in, prepares them off the event loop and hands their windows to the transcriber."""

    def __init__(self, config: ServeConfig, transcriber: DeploymentHandle) -> None:
        self._config = config
        self._transcriber = transcriber
        self._limits = AudioLimits(max_bytes=config.max_upload_bytes, max_audio_s=config.max_audio_s)
        self._threads = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare")
        self._model: ModelInfo | None = None
        self._requests = 0
        self._created = int(time.time())

    @app.post("/v1/audio/transcriptions")
    async def transcriptions(self, request: Request) -> Response:
        """Transcribe an uploaded file."""
        if self._requests >= self._config.max_queued:
            raise ApiError(429, f"{self._requests} requests are waiting already, try again later", "queue_full")
        self._requests += 1
        try:
            async with asyncio.timeout(self._config.request_timeout_s):
                return await self._transcribe(await read_form(request, self._config.max_upload_bytes))
        finally:
            self._requests -= 1

    @app.get("/v1/models")
    async def models(self) -> dict[str, Any]:
        """List the one model that is served."""
        return {"object": "list", "data": [self._listed()]}

    @app.get("/v1/models/{name:path}")
    async def model(self, name: str) -> dict[str, Any]:
        """Describe it."""
        self._check_name(name)
        return self._listed()

    @app.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """Answer as long as this process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(self) -> Response:
        """Answer 200 where a replica of the model answers, else 503."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._transcriber.describe.remote()
        except TimeoutError:
            raise ApiError(503, "no replica of the model answers", "model_unavailable") from None
        return JSONResponse({"status": "ready"})

    async def _transcribe(self, form: TranscriptionForm) -> Response:
        self._check_name(form.model)
        model = self._model = self._model or await self._transcriber.describe.remote()
        try:
            language = spoken_language(form.language, model)
        except UserError as error:
            raise ApiError(400, str(error), "invalid_language", "language") from None
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._threads, prepare, form.audio, language, model, self._limits)
        text = join(await self._decode(prepared.clips)).text
        return PlainTextResponse(f"{text}\n") if form.response_format == "text" else JSONResponse({"text": text})

    async def _decode(self, clips: Sequence[Clip]) -> list[Transcript]:
        """Send all windows at once, each to whichever replica is free; withdraw the rest where one fails."""
        responses = [self._transcriber.transcribe.remote(clip) for clip in clips]
        try:
            return await asyncio.gather(*responses)
        except BaseException:  # a failed window, the time limit, or a client that left
            for response in responses:
                response.cancel()
            raise

    def _check_name(self, name: str) -> None:
        known = self._config.public_name
        if name not in (known, self._config.model, OPENAI_NAME):
            raise ApiError(404, f"there is no model '{name}' here, only '{known}'", "model_not_found", "model")

    def _listed(self) -> dict[str, Any]:
        return {"id": self._config.public_name, "object": "model", "created": self._created, "owned_by": "whisperfleet"}
