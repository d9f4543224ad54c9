"""A process that has imported what training and serving import, and forks itself for whoever asks.

These imports take five to ten seconds of a core, and the suite starts hundreds of processes. What a forked one does
then is what a new one does.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import marshal
import os
import random
import runpy
import select
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asr.imports import end_quickly, lasting_imports, leave_out
from tests.warm.client import RAY_WORKER

MODULES = (
    "transformers.models.whisper.modeling_whisper",
    "transformers.models.whisper.processing_whisper",
    "transformers.trainer_seq2seq",
    "peft",
    "deepspeed",
    "datasets",
    "jiwer",
    "av",
    "ctranslate2",
    "aiohttp",
    "fastapi",
    "uvicorn",
    "sse_starlette",
    "python_multipart",
    "grpc",
    "jsonschema",
    "prometheus_client",
    "opentelemetry.sdk.metrics",
    "rich.console",
)
"""What others have written, but for Ray: it takes note of its settings while it is imported, for each process anew."""

_INSTALLED = [folder for folder in sys.path[1:] if folder not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]

_FORKS_WELL = "jemalloc_bg_thd"
"""The thread of pyarrow's allocator, which begins anew in a fork."""


def main(listener: socket.socket) -> None:
    """Import, and fork for each who asks, until the standard input ends. Who asked before has been waiting."""
    leave_out("bitsandbytes")  # as tests/conftest.py
    with lasting_imports():
        for module in MODULES:
            importlib.import_module(module)
    assert "ray" not in sys.modules
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")} - {_FORKS_WELL}
    assert len(threads) == 1, f"a fork would not have the threads {threads}"
    gc.disable()
    run = _serve(listener)
    gc.enable()
    run()


def _serve(listener: socket.socket) -> Callable[[], object]:
    """Return, in each forked process, what it is to do; and here, in the end, nothing to do."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever asked waits by itself
    with listener:
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                length, streams, *_ = socket.recv_fds(connection, 8, 3)
                asked = marshal.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
                process = os.fork()
                if process == 0:
                    return _become(*asked, streams)
                connection.sendall(process.to_bytes(8, "big"))
            for stream in streams:
                os.close(stream)
    return lambda: None


def _become(command: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> Callable[[], object]:
    """Make this process what Python makes of itself at its start; return what it is to run."""
    os.setpgid(0, 0)  # the raylet ends a worker's group with it, which shall not be ours
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for module in [name for name in sys.modules if name.partition(".")[0] in ("asr", "tests")]:
        del sys.modules[module]  # a job on a cluster has its own
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    random.seed()
    np.random.seed()
    if command[0] == RAY_WORKER:
        return _ray_worker(command[1:])
    script = compile(command[1], "<script>", "exec")
    sys.argv = ["-c", *command[2:]]
    _search("")
    return lambda: exec(script, {"__name__": "__main__"})


def _ray_worker(arguments: list[str]) -> Callable[[], object]:
    """Do as Ray's ``setup_worker.py``: do as its runtime environment says, and begin ``default_worker``."""
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.utils import update_envs
    from ray._private.workers import setup_worker

    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    options, (program, *rest) = parser.parse_known_args(arguments)
    context = RuntimeEnvContext.deserialize(options.serialized_runtime_env_context)
    match context.command_prefix:
        case []:
            pass
        case ["cd", folder, "&&"]:
            os.chdir(shlex.split(folder)[0])
        case _:  # another Python
            os.execv(sys.executable, [sys.executable, setup_worker.__file__, *arguments])
    update_envs(context.env_vars)
    sys.argv = [program, *rest]
    _search(str(Path(program).parent))
    return lambda: runpy.run_path(program, run_name="__main__")


def _search(first: str) -> None:
    """Have modules be looked for where Python looks that has just started."""
    folders = os.environ.get("PYTHONPATH", "")
    sys.path[:] = [first, *(folders.split(os.pathsep) if folders else ()), *_INSTALLED]


if __name__ == "__main__":
    end_quickly()
    main(socket.socket(fileno=int(sys.argv[1])))
