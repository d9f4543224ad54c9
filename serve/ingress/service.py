"""Transcription service of one recording: the key, admission, the model version, decoding, the transcript.

It does not depend on HTTP. Protocols are thin layers above: they parse the request and format the response.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial

from asr.audio.decode import SAMPLE_RATE, AudioLimits
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodedAudio, DecodingOptions, open_sound
from asr.inference.recording import WindowTranscript
from asr.inference.window_list import WindowList
from asr.sound import SoundChoice
from serve.config import ServeConfig
from serve.ingress.limits.admission import Admission, Ticket
from serve.ingress.limits.decode_lanes import Lanes
from serve.ingress.limits.upload_rate import Upload, Uploads
from serve.ingress.replica_channel import ReplicaChannel
from serve.ingress.replica_client import ReplicaClient
from serve.ingress.telemetry.metrics import MetricLabels, Metrics
from serve.ingress.telemetry.middleware import RequestContext
from serve.ingress.window_pipeline import WindowPipeline
from serve.models.router import Route, Router
from serve.shares.limit import Shares

Options = Callable[[ModelInfo], DecodingOptions]
"""Makes a client's options for a model. Raises ApiError 400 if the model cannot do them."""


@dataclass
class Submission:
    """A recording and its options: a file's bytes, a model's public name, the track and channel."""

    audio: bytes = field(repr=False)
    model: str
    options: Options
    sound: SoundChoice


@dataclass(frozen=True)
class ActiveTranscription:
    """A recording under way: ``windows`` yields each window with its transcript, in the order of the recording.

    ``threads`` may run slow parts of its answer. ``extend`` gives it the time of a whole request again.
    """

    route: Route
    options: DecodingOptions
    sound: DecodedAudio
    windows: AsyncGenerator[WindowTranscript]
    threads: Executor
    extend: Callable[[], float]


class TranscriptionService:
    """Transcribes recordings: admits, routes, decodes, cuts into windows, dispatches, collects. Knows no protocol."""

    def __init__(
        self,
        config: ServeConfig,
        channel: ReplicaChannel,
        router: Router,
        lanes: Lanes,
        shares: Shares | None = None,
    ) -> None:
        self.admission = Admission(config.max_queued, config.max_queued_audio_s)
        if shares is not None:
            self.admission.share(shares)
        self.metrics = Metrics(config.public_name, self.admission, config.max_batch_audio_s)
        self._lanes = lanes
        self.timeout_s = config.request_timeout_s
        self._uploads = Uploads(self.admission, config.min_upload_bytes_per_s)
        self._channel = channel
        self._router = router
        # two batches for each replica: one that is decoded, one that waits
        self._batches_s = 2 * config.replicas.max * config.max_batch_audio_s
        strict = AudioLimits(max_bytes=config.max_upload_bytes, max_audio_s=config.max_audio_s)
        self._limits = strict.model_copy(update={"max_damaged_share": config.max_damaged_share})

    async def room(self) -> None:
        """Return once there is room for a request here, or nowhere at the endpoint. Admit it before anything else."""
        await self.admission.room()

    def admit(self, key: str) -> Upload:
        """Admit a request for the length of a block. Raises ApiError 429 if the endpoint is full, 503 once closed."""
        return self._uploads.enter(key)

    async def begin(
        self,
        submission: Submission,
        upload: Upload,
        known: RequestContext,
        deadline: float,
        stack: AsyncExitStack,
    ) -> ActiveTranscription:
        """Begin to transcribe a recording and drop its bytes; it is withdrawn when ``stack`` is closed.

        ``known`` collects facts for the access log. ``deadline`` is on the clock of the event loop. Raises ApiError for
        an unknown model, for options that it lacks, and when the endpoint is full; DataError for a recording that
        cannot be decoded.
        """
        drawn = self._router.route(submission.model, known.request_id)
        known.model, known.version = drawn.name, drawn.role
        async with upload.kept():
            route = await self._router.able_route(drawn.name, known.request_id, submission.options)
            known.version = route.role
            stack.enter_context(self._router.present(route))
            labels = MetricLabels(route.name, route.role, upload.key)
            route, model = await self._router.info(route)
            options = submission.options(model)
            sound, threads = await self._decoded(submission, model, upload.key, stack)
        known.audio_s, known.warnings = sound.decoded_s, sound.report.warnings or None
        expected_s = sound.expected_s(model)
        await self.admission.room_for(expected_s)
        upload.ticket.expect(expected_s)
        client = ReplicaClient(
            self._channel, route.version, model, known.request_id, labels, upload.ticket, self.metrics, deadline
        )
        pipeline = WindowPipeline(client.send, threads, max(1, int(self._batches_s / model.window_s)))
        windows = upload.each(self._heard(pipeline.transcribe(sound, options, model), sound, upload.ticket, labels))
        stack.push_async_callback(windows.aclose)

        def extend() -> float:
            client.deadline = time.monotonic() + self.timeout_s
            return client.deadline

        return ActiveTranscription(route, options, sound, windows, threads, extend)

    async def _heard(
        self, windows: AsyncGenerator[WindowTranscript], sound: DecodedAudio, ticket: Ticket, labels: MetricLabels
    ) -> AsyncGenerator[WindowTranscript]:
        """Yield what comes; silence that was found since the recording was expected is waited for no longer."""
        cut = sound.windows.taken if isinstance(sound.windows, WindowList) else sound.windows
        end = cut[-1].end if cut else 0
        async with aclosing(windows):
            async for window, transcript in windows:
                if window.start > end:
                    ticket.spare((window.start - end) / SAMPLE_RATE)
                end = max(end, window.end)
                yield window, transcript
        self.metrics.silent(labels, sound.silent_s)

    async def drain(self, pause_s: float) -> None:
        """Admit no request any more, and return when all admitted ones have been answered."""
        self.admission.close()
        while self.admission.requests:
            await asyncio.sleep(pause_s)

    async def _decoded(
        self, submission: Submission, model: ModelInfo, key: str, stack: AsyncExitStack
    ) -> tuple[DecodedAudio, Executor]:
        lease = self._lanes.memory.lease(key)
        stack.callback(lease.close)
        opening = partial(open_sound, submission.audio, self._limits, model, submission.sound)
        size, submission.audio = len(submission.audio), b""
        return await self._lanes.open(size, lease, opening)
