"""Runs in a side's process: an endpoint that tells its address, or a library that transcribes when it is told to.

python -m benchmarks.serving.host NAME MODEL THREADS
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Literal

from asr.parsed import JsonObject
from benchmarks.recipe.work import say
from serve.config import ServeConfig

LANGUAGE = "it"
OURS = ("ours", "ours_torch")
RAY_PROXY = "ours_ray_proxy"
ENDPOINTS = (*OURS, RAY_PROXY)
DIRECT, LIBRARY, SERVER, PIPELINE = "direct", "faster_whisper", "fastapi", "transformers"
BATCH = 8  # windows of a long file at once, and clips of the pipeline: what fits a small machine
SHORT_S = 30.0

Hear = Callable[[list[str]], list[str]]
"""Files in, texts out."""


def main() -> None:
    """Serve or transcribe until the input ends."""
    name, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if name in ENDPOINTS or name == SERVER:
        with _our_endpoint(name, model, threads) if name in ENDPOINTS else _their_endpoint(model, threads) as url:
            say("ready", url=url)
            sys.stdin.read()
        return
    hear, at_once = _library(name, model, threads)
    say("ready", url=None)
    for line in sys.stdin:
        asked = json.loads(line)
        say("heard", **timed(hear, asked["paths"], asked["clients"], at_once))


def configuration(name: str, model: str, threads: int) -> ServeConfig:
    """Return the configuration of our endpoint: what a user gets, but room for a backlog."""
    engine: Literal["torch", "ctranslate2"] = "torch" if name == "ours_torch" else "ctranslate2"
    return ServeConfig(model=model, name="bench", engine=engine, port=0, cpus_each=threads, max_queued=512)


@contextmanager
def _our_endpoint(name: str, model: str, threads: int) -> Iterator[str]:
    from serve.app import running

    with running(configuration(name, model, threads)) as url:
        yield url


@contextmanager
def _their_endpoint(model: str, threads: int) -> Iterator[str]:
    import uvicorn

    from benchmarks.serving.fastapi_server import application

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application(model, threads), log_level="warning"))
        thread = Thread(target=server.run, args=([free],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{free.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def _library(name: str, model: str, threads: int) -> tuple[Hear, int]:
    """Return the function that transcribes files, and how many of them it wants at once."""
    if name == DIRECT:
        return _direct(model, threads), 1
    if name == LIBRARY:
        return _faster_whisper(model, threads), 1
    return _pipeline(model, threads), BATCH


def _direct(model: str, threads: int) -> Hear:
    from asr.inference.transcribe import transcribe
    from serve.replica.engine_loader import load_engine

    engine = load_engine(configuration(DIRECT, model, threads))
    return lambda paths: [transcribe(engine, Path(path), LANGUAGE).text for path in paths]


def _faster_whisper(model: str, threads: int) -> Hear:
    from benchmarks.serving.fastapi_server import batched, text

    whisper = batched(model, threads)
    return lambda paths: [text(whisper, path, LANGUAGE) for path in paths]


def _pipeline(model: str, threads: int) -> Hear:
    import torch
    from transformers import pipeline

    from asr.audio.decode import SAMPLE_RATE, decode

    torch.set_num_threads(threads)
    heard = pipeline("automatic-speech-recognition", model=model, device="cpu", dtype=torch.float32)
    asked = {"language": LANGUAGE, "task": "transcribe"}

    def hear(paths: list[str]) -> list[str]:
        sounds: list[JsonObject] = [{"raw": decode(path), "sampling_rate": SAMPLE_RATE} for path in paths]
        is_long = any(len(sound["raw"]) > SHORT_S * SAMPLE_RATE for sound in sounds)
        options: JsonObject = {"chunk_length_s": SHORT_S} if is_long else {}
        results = heard(sounds, batch_size=BATCH if is_long else len(sounds), generate_kwargs=dict(asked), **options)
        return [str(result["text"]).strip() for result in results]

    return hear


def timed(hear: Hear, paths: Sequence[str], clients: int, at_once: int) -> JsonObject:
    """Have ``clients`` callers ask for files, each for its next ones when it has got the last.

    A library that takes ``at_once`` files together is called by one caller, with as many files as there are clients.
    """
    size = min(clients, at_once)
    parts = [list(paths[start : start + size]) for start in range(0, len(paths), size)]
    begun = time.perf_counter()

    def one(part: list[str]) -> tuple[list[str], float]:
        since = time.perf_counter()
        return hear(part), time.perf_counter() - since

    if at_once > 1 or clients == 1:
        done = [one(part) for part in parts]  # in the thread that was here before: a new one starts its own workers
    else:
        with ThreadPoolExecutor(clients) as pool:
            done = list(pool.map(one, parts))
    return {
        "seconds": time.perf_counter() - begun,
        "texts": [text for texts, _ in done for text in texts],
        "latencies_s": [seconds for texts, seconds in done for _ in texts],
    }


if __name__ == "__main__":
    main()
