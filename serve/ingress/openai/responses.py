"""A recording in the format that a client asked for: whole, or growing window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import Response
from fastapi.responses import JSONResponse, PlainTextResponse

from asr.inference.formats import as_json, as_srt, as_text, as_verbose_json, as_vtt
from asr.inference.known_model import KnownModel
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodingOptions, as_answered
from asr.inference.recording import Joiner, Recording, RecordingPart, Window
from asr.parsed import JsonObject
from asr.printable import printable
from asr.sound import SoundReport
from asr.transcript import Transcript
from serve.ingress.openai.parameters import Parameters

# One for each position of the encoder, 20 ms; what the decoder was told before is not counted.
AUDIO_TOKENS_PER_S = 50

HEADER = "x-audio-warnings"
MAX_HEADER_LENGTH = 1000  # servers and proxies take 4 to 8 KB for all headers together
_CUT = "; and more"

_DOCUMENTS: dict[str, Callable[[Recording], str]] = {"srt": as_srt, "vtt": as_vtt}


class Answer:
    """Tells a recording of ``duration_s`` seconds as ``parameters`` ask; its windows are added in their order.

    The deltas of an answer, one after the other, are the text of its done event: the words, or where srt or vtt is
    asked for, the subtitles. With verbose_json each delta has its segments and words, and the done event all of them.
    ``report`` is what decoding found.
    """

    def __init__(
        self, parameters: Parameters, options: DecodingOptions, duration_s: float, report: SoundReport
    ) -> None:
        self._parameters = parameters
        self._options = options
        self._duration_s = duration_s
        self._report = report
        self._joiner = Joiner()
        self._told = 0  # characters of the document that are in deltas already

    def add(self, window: Window, transcript: Transcript) -> RecordingPart:
        """Take the next window and its transcript."""
        return self._joiner.add(window, as_answered(transcript, self._options.task))

    @property
    def recording(self) -> Recording:
        """The transcript so far."""
        return self._joiner.recording(self._duration_s, self._options.language, self._report)

    @property
    def headers(self) -> dict[str, str]:
        """The response headers about the audio: its warnings, if there are any."""
        return {HEADER: as_header(self._report.warnings)} if self._report.warnings else {}

    def response(self) -> Response:
        """Return the whole answer at once, when all windows were added."""
        self._joiner.rest(self._duration_s)
        recording, headers = self.recording, self.headers
        match self._parameters.response_format:
            case "json":
                return JSONResponse(as_json(recording), headers=headers)
            case "verbose_json":
                return JSONResponse(self._verbose(recording), headers=headers)
            case "vtt":
                return Response(as_vtt(recording), headers=headers, media_type="text/vtt")
            case "srt":
                return PlainTextResponse(as_srt(recording), headers=headers)
            case "text":
                return PlainTextResponse(as_text(recording), headers=headers)

    def delta(self, part: RecordingPart) -> dict[str, object]:
        """Return the event of what a window added; ``end`` and ``duration`` say, in seconds, how far that is."""
        event = self._delta(self._document())
        event |= {"end": round(part.until_s, 3), "duration": round(self._duration_s, 3)}
        if self._parameters.response_format == "verbose_json":
            added = self._verbose(Recording(self._duration_s, None, part.segments, part.words))
            event |= {name: added[name] for name in ("segments", "words") if name in added}
        return event

    def rest(self) -> dict[str, object] | None:
        """Return the event of what no window added alone; None for nothing.

        That is what was held back for another channel, or the head of subtitles without any.
        """
        part = self._joiner.rest(self._duration_s)
        if part.segments or part.words:
            return self.delta(part)
        document = self._document()
        return self._delta(document) if self._told < len(document) else None

    def done(self) -> dict[str, object]:
        """Return the event that ends the answer, with all of its text and what it cost."""
        recording = self.recording
        spoken = round(recording.decoded_s * AUDIO_TOKENS_PER_S)
        written = sum(len(segment.tokens) for segment in recording.segments)
        usage = {
            "type": "tokens",
            "input_tokens": spoken,
            "input_token_details": {"audio_tokens": spoken},
            "output_tokens": written,
            "total_tokens": spoken + written,
        }
        event: dict[str, object] = {"type": "transcript.text.done", "text": self._document(), "usage": usage}
        return (self._verbose(recording) if self._parameters.response_format == "verbose_json" else {}) | event

    def _document(self) -> str:
        write = _DOCUMENTS.get(self._parameters.response_format)
        return self.recording.text if write is None else write(self.recording)

    def _delta(self, document: str) -> dict[str, object]:
        delta, self._told = document[self._told :], len(document)
        return {"type": "transcript.text.delta", "delta": delta}

    def _verbose(self, recording: Recording) -> dict[str, object]:
        return as_verbose_json(recording, self._options.task, tuple(self._parameters.granularities))


def as_header(warnings: Sequence[str]) -> str:
    """Return warnings as the value of a header: printable ASCII of bounded length, whatever a file made them say."""
    text = "; ".join(printable(warning.replace(";", ","), MAX_HEADER_LENGTH, ascii_only=True) for warning in warnings)
    return text if len(text) <= MAX_HEADER_LENGTH else text[: MAX_HEADER_LENGTH - len(_CUT)] + _CUT


def listed(name: str, created: int, facts: ModelInfo | KnownModel | None) -> JsonObject:
    """Return a model's entry of ``/v1/models``: OpenAI's fields, and what it can be asked, where that is known."""
    entry: JsonObject = {"id": name, "object": "model", "created": created, "owned_by": "whisperfleet"}
    if facts is not None:
        entry |= {"languages": sorted(facts.languages), "cannot": sorted(facts.refusals)}
    return entry
