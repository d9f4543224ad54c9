"""Windows from one ingress to its replicas: calls a second, what a call costs, and how many bytes travel."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
import uuid

import numpy as np
import ray.serve
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from asr.transcript import DecodingRequest
from benchmarks.provenance import tell
from benchmarks.scale.fakes import LANGUAGE, blank
from benchmarks.scale.figures import Figure, Sizes
from benchmarks.scale.ingress import KINDS
from benchmarks.scale.processes import using
from cluster.session import ray_session
from serve.config import ServeConfig
from serve.replica.transcriber import replicas
from tests.serve.made import made

_REPLICAS = (1, 2)
_FLIGHT = (1, 8, 64)  # calls that are on their way at a time
_WINDOWS = {"5 s": (80, 500), "30 s": (80, 3000), "30 s of large-v3": (128, 3000)}  # mel bins, frames
_WARM = 8


def router(sizes: Sizes) -> list[Figure]:
    """Return the figures of each window with two replicas, and of the shortest with one."""
    figures = []
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with ray_session():
        ray.serve.start(proxy_location="Disabled", logging_config=LoggingConfig(log_level="WARNING"))
        for count in _REPLICAS:
            config = ServeConfig(model="fake", port=0, cpus_each=1, replicas={"min": count, "max": count})
            name = f"scale-{count}"
            handle = ray.serve.run(replicas(config, made(blank)), name=name, route_prefix=None)
            handle = handle.options(_by_reference=False, stream=True)  # as ingresses ask them
            for window, shape in _WINDOWS.items():
                if count == max(_REPLICAS) or window == "5 s":
                    tell(f"windows of {window} to {count} replicas")
                    figures += asyncio.run(
                        _asked(handle, np.zeros(shape, np.float16), f"{window}, {count} replicas", sizes)
                    )
            ray.serve.delete(name)
        ray.serve.shutdown()
    return figures


async def _asked(handle: DeploymentHandle, features: NDArray[np.float16], at: str, sizes: Sizes) -> list[Figure]:
    clip = DecodingRequest(features, LANGUAGE)
    figures = [Figure("bytes of a window", at, float(len(pickle.dumps(clip))), "bytes")]
    await _calls(handle, clip, _WARM, 1)
    for flight in _FLIGHT:
        with using(KINDS) as used:
            begun, core = time.perf_counter(), time.process_time()
            await _calls(handle, clip, sizes.calls, flight)
            seconds, core_s = time.perf_counter() - begun, time.process_time() - core
        figures.append(Figure("windows answered", f"{at}, {flight} at a time", sizes.calls / seconds, "1/s"))
    figures += [
        Figure("core time of who asks", at, 1000 * core_s / sizes.calls, "ms per window"),
        Figure("core time of the replicas", at, 1000 * used.of("replica") / sizes.calls, "ms per window"),
        Figure("core time of raylet and GCS", at, 1000 * used.of("Ray") / sizes.calls, "ms per window"),
    ]
    return figures


async def _calls(handle: DeploymentHandle, clip: DecodingRequest, count: int, flight: int) -> None:
    left = iter(range(count))

    async def ask() -> None:
        for _ in left:
            async for _ in handle.transcribed.remote(clip, uuid.uuid4().hex, 0, 60.0, None, ""):
                pass

    await asyncio.gather(*(ask() for _ in range(flight)))
