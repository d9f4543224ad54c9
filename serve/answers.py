"""A recording in the format that a client asked for: whole, or growing window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse, PlainTextResponse

from asr.captions import as_json, as_srt, as_text, as_verbose_json, as_vtt
from asr.clip import Transcript
from asr.recording import Joiner, Part, Recording, Window
from serve.parameters import Parameters
from serve.request import Asked, as_answered

# One for each position of the encoder, 20 ms; what the decoder was told before is not counted.
AUDIO_TOKENS_PER_S = 50

_DOCUMENTS: dict[str, Callable[[Recording], str]] = {"srt": as_srt, "vtt": as_vtt}


class Answer:
    """Tells a recording of ``duration_s`` seconds as ``parameters`` ask; its windows are added in their order.

    The deltas of an answer, one after the other, are the text of its done event: the words, or where srt or vtt is
    asked for, the subtitles. With verbose_json each delta has its segments and words, and the done event all of them.
    """

    def __init__(self, parameters: Parameters, asked: Asked, duration_s: float) -> None:
        self._parameters = parameters
        self._asked = asked
        self._duration_s = duration_s
        self._joiner = Joiner()
        self._told = 0  # characters of the document that are in deltas already

    def add(self, window: Window, transcript: Transcript) -> Part:
        """Take the next window and what was heard in it."""
        return self._joiner.add(window, as_answered(transcript, self._asked.task))

    @property
    def recording(self) -> Recording:
        """What was heard so far."""
        return self._joiner.recording(self._duration_s, self._asked.language)

    def response(self) -> Response:
        """Return the whole answer at once."""
        match self._parameters.response_format:
            case "json":
                return JSONResponse(as_json(self.recording))
            case "verbose_json":
                return JSONResponse(self._verbose(self.recording))
            case "vtt":
                return Response(as_vtt(self.recording), media_type="text/vtt")
            case "srt":
                return PlainTextResponse(as_srt(self.recording))
            case "text":
                return PlainTextResponse(as_text(self.recording))

    def delta(self, window: Window, part: Part) -> dict[str, Any]:
        """Return the event of what a window added; ``end`` and ``duration`` say, in seconds, how far that is."""
        event = self._delta(self._document())
        event |= {"end": round(window.end_s, 3), "duration": round(self._duration_s, 3)}
        if self._parameters.response_format == "verbose_json":
            added = self._verbose(Recording(self._duration_s, None, part.segments, part.words))
            event |= {name: added[name] for name in ("segments", "words") if name in added}
        return event

    def rest(self) -> dict[str, Any] | None:
        """Return the event of what no window added, such as the head of subtitles without any; None for nothing."""
        document = self._document()
        return self._delta(document) if self._told < len(document) else None

    def done(self) -> dict[str, Any]:
        """Return the event that ends the answer, with all of its text and what it cost."""
        recording = self.recording
        spoken = round(self._duration_s * AUDIO_TOKENS_PER_S)
        written = sum(len(segment.tokens) for segment in recording.segments)
        usage = {
            "type": "tokens",
            "input_tokens": spoken,
            "input_token_details": {"audio_tokens": spoken},
            "output_tokens": written,
            "total_tokens": spoken + written,
        }
        event = {"type": "transcript.text.done", "text": self._document(), "usage": usage}
        return (self._verbose(recording) if self._parameters.response_format == "verbose_json" else {}) | event

    def _document(self) -> str:
        return _DOCUMENTS.get(self._parameters.response_format, lambda recording: recording.text)(self.recording)

    def _delta(self, document: str) -> dict[str, Any]:
        delta, self._told = document[self._told :], len(document)
        return {"type": "transcript.text.delta", "delta": delta}

    def _verbose(self, recording: Recording) -> dict[str, Any]:
        return as_verbose_json(recording, self._asked.task, tuple(self._parameters.granularities))
