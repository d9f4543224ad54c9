"""HTTP API: OpenAI's audio API on FastAPI, as the ingress of the Serve application."""

# No `from __future__ import annotations`: Serve pickles the class by value, and FastAPI could not resolve the words.

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from functools import partial

import ray.serve
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray.serve.handle import DeploymentHandle

from asr.inference.model_info import ModelInfo
from asr.parsed import JsonObject
from asr.transcript import Task
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.ingress.admin import AdminApi
from serve.ingress.controller_link import ControllerLink, actor_name, own_handle
from serve.ingress.error_middleware import install
from serve.ingress.limits.auth import read_keys
from serve.ingress.limits.body_drain import welcome
from serve.ingress.limits.decode_lanes import Lanes
from serve.ingress.openai import schemas
from serve.ingress.openai.form import read_form
from serve.ingress.openai.openapi import ORDERED, TRANSCRIBED, answers, document
from serve.ingress.openai.parameters import options_of
from serve.ingress.openai.responses import Answer, listed
from serve.ingress.openai.sse import EventStream, events
from serve.ingress.page import router as page
from serve.ingress.readiness import Readiness
from serve.ingress.replica_channel import ReplicaChannel, living_nodes, no_nodes
from serve.ingress.scaling import IngressLoad
from serve.ingress.service import Submission, TranscriptionService
from serve.ingress.telemetry.access_log import AccessLog
from serve.ingress.telemetry.metrics import Families
from serve.ingress.telemetry.middleware import Observer, TelemetrySinks, request_context
from serve.ingress.telemetry.scrapes import Peers, Scrapes
from serve.models.directory import ModelDirectory

# Python's own 5 ms, which a thread that prepares may keep the event loop waiting, made health 2 to 4 times as late.
SWITCH_S = 0.0005
DRAIN_PAUSE_S = 0.1

_sinks: list[TelemetrySinks] = []


def open_sinks(sinks: TelemetrySinks) -> None:
    """Set the sinks that record the requests which this process answers."""
    # A function, because the class below is pickled by value, with a copy of each variable that it names.
    _sinks[:] = [sinks]


def _opened_sinks() -> TelemetrySinks:
    return _sinks[0]


# The form is parsed by hand, within limits; `serve.ingress.openai.openapi` says what is in it. FastAPI's pages of the
# document load scripts from elsewhere. A redirect would repeat the Host that was sent.
app = FastAPI(title="whisperfleet", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
install(app)
app.add_middleware(Observer, sinks=_opened_sinks)
app.include_router(page)


@ray.serve.ingress(app)
class Api:
    """Takes requests in, prepares them off the event loop and hands their windows to the transcriber."""

    def __init__(
        self, config: ServeConfig, transcriber: DeploymentHandle, controller: DeploymentHandle, actor: str = ""
    ) -> None:
        sys.setswitchinterval(SWITCH_S)
        self._config = config
        self._keys = read_keys(config.keys)
        self._link = ControllerLink(actor or actor_name(), controller, transcriber)
        self._channel = ReplicaChannel(transcriber, lambda: self._link.nodes, no_nodes if actor else living_nodes)
        self._service = TranscriptionService(
            config, self._channel, self._link.router, Lanes(config.max_decoded_bytes), self._link.shares
        )
        self._keys.share(self._link.shares)
        log = AccessLog(config.access_log, config.log_words, self._link.name)
        open_sinks(TelemetrySinks(log, self._service.metrics))
        self._directory = ModelDirectory(self._link.router, self._link.replicas)
        self._readiness = Readiness(self._directory.default_answers)
        self._admin_api = AdminApi(config, self._keys, self._link)
        peers = Peers(self._link.name, self._service.metrics.families, None if actor else own_handle())
        self._scrapes = Scrapes(self._keys, peers)
        self._load = IngressLoad()
        self._created = int(time.time())
        self._link.open()
        self._channel.open()

    @app.post("/v1/audio/transcriptions", **TRANSCRIBED)
    async def transcriptions(self, request: Request) -> Response:
        """Write down what is said in an uploaded file."""
        return await self._answer(request, "transcribe")

    @app.post("/v1/audio/translations", **TRANSCRIBED)
    async def translations(self, request: Request) -> Response:
        """Write down in English what is said in an uploaded file, whatever language is spoken."""
        return await self._answer(request, "translate")

    @app.get("/v1/models", **answers(schemas.Models, 401))
    async def models(self, request: Request) -> JsonObject:
        """List the models by their public names."""
        self._keys.holder(request.headers.get("authorization"))
        return {"object": "list", "data": [await self._listed(name) for name in self._directory.names]}

    @app.get("/v1/models/{name:path}", **answers(schemas.Model, 401, 404))
    async def model(self, name: str, request: Request) -> JsonObject:
        """Describe the model of that public name."""
        self._keys.holder(request.headers.get("authorization"))
        return await self._listed(self._directory.name(name))

    @app.get("/admin/models", **answers(schemas.States, 401, 403))
    async def model_states(self, request: Request) -> Response:
        """Return the versions and state of each model name, for an admin."""
        return await self._admin_api.listing(request)

    @app.post("/admin/models/{verb}/{name:path}", **ORDERED)
    async def change_model(self, verb: str, name: str, request: Request) -> Response:
        """Load, promote, roll back or unload a model."""
        return await self._admin_api.change(request, verb, name)

    @app.get("/healthz", **answers(schemas.Status))
    async def healthz(self) -> dict[str, str]:
        """Answer as long as this process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", **answers(schemas.Status, 503))
    async def readyz(self) -> Response:
        """Answer 200 where a replica answers that holds the default model, else 503; 503 too while it drains."""
        if self._service.admission.closed:
            raise ApiError(503, "the endpoint is shutting down", "shutting_down")
        await self._readiness.check()
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", **answers(None, 401, 403, media_type="text/plain"))
    async def metrics(self, request: Request) -> Response:
        """Return the metrics of all ingresses for Prometheus; where keys are required, to one that may read them."""
        return await self._scrapes.all(request)

    @app.get("/metrics/targets", **answers(list[schemas.Target], 401, 403))
    async def metric_targets(self, request: Request) -> Response:
        """List the ingresses for Prometheus' HTTP service discovery, each a target of its own."""
        return await self._scrapes.targets(request)

    @app.get("/metrics/ingress/{name}", **answers(None, 401, 403, 404, media_type="text/plain"))
    async def metrics_of(self, name: str, request: Request) -> Response:
        """Return the metrics of one ingress, whichever of them is asked."""
        return await self._scrapes.one(request, name)

    @app.get("/openapi.json", **answers(schemas.Document))
    async def openapi(self) -> Response:
        """Return the OpenAPI document of this endpoint."""
        return JSONResponse(document(app))

    async def default_model(self) -> ModelInfo:
        """Return what is known of the default model. Called by handle, not by HTTP."""
        return await self._directory.default_info()

    async def metric_families(self) -> tuple[str, Families]:
        """Return the name of this ingress, and its metrics. Called by handle, not by HTTP."""
        return self._link.name, self._service.metrics.families()

    async def check_health(self) -> None:
        """Return once there is a catalogue to answer by: before, Serve sends nobody here."""
        await self._link.opened()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the figures that Serve's controller scales the ingresses by."""
        return self._load.figures(max(1, len(self._link.nodes)))

    async def drain(self) -> None:
        """Admit no more requests, and return when all admitted ones are answered. Called by handle, not by HTTP."""
        await self._service.drain(DRAIN_PAUSE_S)

    async def _answer(self, request: Request, task: Task) -> Response:
        deadline = time.monotonic() + self._service.timeout_s  # the event loop's clock
        known = request_context(request.scope)
        async with AsyncExitStack() as stack, asyncio.timeout_at(deadline):
            await self._keys.room(request.headers.get("authorization"))
            known.key = stack.enter_context(self._keys.authorise(request.headers.get("authorization")))
            await self._service.room()
            welcome(request.scope)
            upload = stack.enter_context(self._service.admit(known.key))
            form = await read_form(upload.paced(request), self._config.max_upload_bytes)
            upload.arrived()
            parameters = form.parameters
            options = partial(options_of, parameters=parameters, task=task)
            submission = Submission(form.audio, parameters.model, options, parameters.sound)
            del form  # the upload may be large, and what is decoded of it is enough
            begun = await self._service.begin(submission, upload, known, deadline, stack)
            told = Answer(parameters, begun.options, begun.sound.duration_s, begun.sound.report)
            if self._config.log_words:
                stack.callback(lambda: setattr(known, "words", told.recording.text))
            if parameters.stream:
                first = await anext(begun.windows, None)  # what fails until then has a status of its own
                sent = events(first, begun.windows, told, begun.extend)
                return begun.route.named(EventStream(sent, stack.pop_all(), told.headers))
            async for window, transcript in begun.windows:
                told.add(window, transcript)
            if len(begun.sound.windows) > 1:  # two hours of words take 56 ms
                loop = asyncio.get_running_loop()
                return begun.route.named(await loop.run_in_executor(begun.threads, told.response))
            return begun.route.named(told.response())

    async def _listed(self, name: str) -> JsonObject:
        return listed(name, self._created, await self._directory.facts(name))
