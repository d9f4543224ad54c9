"""Requests through the endpoint with a model that answers at once: real uploads of real speech, over HTTP.

Core seconds are by process, so that they say how many of each a load needs, however few cores there are to measure on.
Voice activity, which decoding children look for, and features, which the ingress's threads compute, are apart too.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from asr.audio.decode import decode
from asr.audio.features import LogMel
from asr.inference.windows import windows
from benchmarks.provenance import tell
from benchmarks.scale.corpora import speech
from benchmarks.scale.fakes import LANGUAGE, instant
from benchmarks.scale.figures import Figure, Sizes, median_core_s
from benchmarks.scale.processes import Used, using
from benchmarks.serving.load import saturating
from benchmarks.serving.speech import Spoken
from serve.app import running
from serve.config import ServeConfig
from tests.serve.made import made

KINDS = {
    "asr.audio.sandbox_child": "decoding children",
    "ray::ProxyActor": "proxy",
    ":Api": "ingress",
    "ServeReplica:": "replica",
    "ray::ServeController": "controller",
    "gcs_server": "Ray",
    "raylet/raylet": "Ray",
}
_SHOWN = ("proxy", "ingress", "decoding children", "replica", "Ray")
_TARGET_PER_S = 10_000
_WARM = 32
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def ingress(sizes: Sizes) -> list[Figure]:
    """Return the figures of requests, of what is empty, and of the ingress's threads."""
    with TemporaryDirectory(prefix="wf-") as name:
        clips, audio_s = speech(Path(name), sizes.checkpoint, sizes.prompts)
        spoken = [Spoken(Path(str(clip.audio)), clip.text, clip.duration_s or 0.0) for clip in clips]
        uploaded = statistics.mean(one.path.stat().st_size for one in spoken)
        figures = [
            Figure("a recording", "real speech, FLAC", audio_s, "s"),
            Figure("an upload", "real speech, FLAC", uploaded, "bytes"),
        ]
        with patch.dict(os.environ, _ONE_THREAD), ProcessPoolExecutor(1, get_context("spawn")) as alone:
            threads_ms = alone.submit(_threads, spoken, sizes.rounds).result()  # as Serve starts its actors
        return figures + threads_ms + _requests(spoken, sizes)


def _threads(spoken: list[Spoken], rounds: int) -> list[Figure]:
    log_mel = LogMel(WhisperFeatureExtractor().mel_filters)
    waveforms = [decode(str(one.path)) for one in spoken]
    found: dict[str, Callable[[NDArray[np.float32]], object]] = {"voice activity": windows, "features": log_mel}
    figures = []
    for name, work in found.items():
        work(waveforms[0])
        core_s = median_core_s(partial(_each, work, waveforms), rounds)
        figures.append(Figure(f"core time of {name}", "alone, one thread", 1000 * core_s / len(waveforms), "ms"))
    return figures


def _each(work: Callable[[NDArray[np.float32]], object], waveforms: list[NDArray[np.float32]]) -> None:
    for waveform in waveforms:
        work(waveform)


def _requests(spoken: list[Spoken], sizes: Sizes) -> list[Figure]:
    config = ServeConfig(model="fake", port=0, cpus_each=1, max_queued=4 * max(sizes.connections))
    with running(config, made(instant)) as url:
        asked = [spoken[number % len(spoken)] for number in range(max(sizes.requests, 2 * max(sizes.connections)))]
        saturating(url, asked[:_WARM], 1, LANGUAGE)
        figures = _empty(url, sizes)
        for connections in sizes.connections:
            tell(f"{connections} connections")
            with using(KINDS) as used:
                heard = saturating(url, asked, connections, LANGUAGE)
            if heard.errors:
                raise RuntimeError(f"{len(heard.errors)} of {len(asked)} failed: {next(iter(heard.errors.values()))}")
            at = f"{connections} connections"
            latency_s = statistics.median(heard.latencies_s)
            figures += [
                Figure("requests answered", at, len(asked) / heard.seconds, "1/s"),
                Figure("latency, median", at, 1000 * latency_s, "ms"),
            ]
            for process in _SHOWN:
                core_ms = 1000 * used.of(process) / len(asked)
                figures.append(Figure(f"core time of the {process}", at, core_ms, "ms per request"))
            loop_ms = 1000 * used.of_the_busiest_thread("ingress") / len(asked)
            figures.append(Figure("core time of the ingress's event loop", at, loop_ms, "ms per request"))
    for process in ("proxy", "ingress"):
        needed = used.of(process) / len(asked) * _TARGET_PER_S
        figures.append(Figure(f"cores of {process} for {_TARGET_PER_S:,} requests a second", at, needed, "cores"))
    return figures


def _empty(url: str, sizes: Sizes) -> list[Figure]:
    """Return what a request costs that asks for nothing."""

    def ask() -> None:
        with urlopen(f"{url}/healthz") as answer:
            answer.read()

    per_s, used = _repeated(ask, sizes.requests)
    figures = [Figure("requests answered", "/healthz, 1 connection after the other", per_s, "1/s")]
    for process in ("proxy", "ingress"):
        core_ms = 1000 * used.of(process) / sizes.requests
        figures.append(Figure(f"core time of the {process}", "/healthz", core_ms, "ms per request"))
    return figures


def _repeated(work: Callable[[], None], times: int) -> tuple[float, Used]:
    work()
    with using(KINDS) as used:
        begun = time.perf_counter()
        for _ in range(times):
            work()
        seconds = time.perf_counter() - begun
    return times / seconds, used
