"""A plain FastAPI server around faster-whisper, as the popular OpenAI-compatible servers are built."""

# No `from __future__ import annotations`: FastAPI reads the types of the function below.

import tempfile
from typing import Annotated

from fastapi import FastAPI, Form, UploadFile
from faster_whisper import BatchedInferencePipeline, WhisperModel

BEAM = 1  # greedy, as all other sides decode; its default of 5 takes longer
BATCH = 8


def batched(model: str, threads: int) -> BatchedInferencePipeline:
    """Load a CTranslate2 folder in int8."""
    return BatchedInferencePipeline(WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads))


def text(whisper: BatchedInferencePipeline, path: str, language: str) -> str:
    """Return the transcript of a file, with the library's own voice activity detection."""
    segments, _ = whisper.transcribe(path, language=language, beam_size=BEAM, batch_size=BATCH)
    return " ".join(segment.text.strip() for segment in segments)


def application(model: str, threads: int) -> FastAPI:
    """Return the server: one model, a file from disk for each request, in a thread of FastAPI's."""
    whisper = batched(model, threads)
    app = FastAPI()

    @app.post("/v1/audio/transcriptions")
    def transcriptions(file: UploadFile, model: Annotated[str, Form()], language: Annotated[str, Form()]) -> object:
        with tempfile.NamedTemporaryFile(suffix=".flac") as kept:
            kept.write(file.file.read())
            kept.flush()
            return {"text": text(whisper, kept.name, language)}

    return app
