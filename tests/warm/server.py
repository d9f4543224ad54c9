"""A process that has imported what training and serving import, and forks itself for whoever asks.

These imports take five to ten seconds of a core, and the suite starts hundreds of processes. What a forked one does
then is what a new one does, but for what Python and libraries draw or read once, at their start: all have one seed of
the hashes of strings, and the server's ``HF_`` and ``OMP_`` settings.
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
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from asr.imports import lasting_imports, leave_out
from tests.warm.client import RAY_WORKER

MODULES = (
    "transformers.models.whisper.modeling_whisper",
    "transformers.models.whisper.processing_whisper",
    "transformers.trainer_seq2seq",
    "peft",
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
"""The thread of pyarrow's allocator, which a fork does without."""

_QLORA = "bitsandbytes"
"""Left out by the product (``train.trainer.strategy``) where it may be: here while PEFT is imported, which looks."""

_PATIENCE_S = 30.0


def main(listener: socket.socket) -> None:
    """Import, and fork for each who asks, until the standard input ends. Who asked before has been waiting."""
    leave_out(_QLORA)
    with lasting_imports():
        for module in MODULES:
            importlib.import_module(module)
    del sys.modules[_QLORA]
    assert "ray" not in sys.modules
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert len([name for name in threads if name != _FORKS_WELL]) == 1, f"a fork would not have all of {threads}"
    gc.disable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever asked waits by itself
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        connection.settimeout(_PATIENCE_S)
        if run := _fork(connection):  # in the new process
            listener.close()
            gc.enable()
            run()
            return
    os._exit(0)  # without a search for garbage, which takes seconds


def _fork(connection: socket.socket) -> Callable[[], object] | None:
    """Return None; and in a new process, for whoever asks at ``connection``, what that is to do."""
    with connection, ExitStack() as ours:
        try:
            length, streams, *_ = socket.recv_fds(connection, 8, 3)
            for stream in streams:
                ours.callback(os.close, stream)
            asked = marshal.loads(_read(connection, int.from_bytes(length, "big")))
        except (OSError, EOFError, ValueError, TypeError):
            return None  # who asked is gone, as a raylet that was killed
        process = os.fork()
        if process == 0:
            ours.pop_all()
            return _become(*asked, streams)
        with suppress(OSError):  # who asked is gone, or the process is
            descriptor = os.pidfd_open(process)
            ours.callback(os.close, descriptor)
            socket.send_fds(connection, [b"1"], [descriptor])
    return None


def _read(connection: socket.socket, length: int) -> bytes:
    read = bytearray()
    while len(read) < length and (more := connection.recv(length - len(read))):
        read += more
    return bytes(read)


def _become(
    command: list[str], environment: dict[str, str], folder: str, blocked: list[int], streams: list[int]
) -> Callable[[], object]:
    """Make this process what Python makes of itself at its start; return what it is to run."""
    os.setpgid(0, 0)  # the raylet ends a worker's group with it, which shall not be ours
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for module in [name for name in sys.modules if name.partition(".")[0] in ("asr", "tests")]:
        del sys.modules[module]  # a job on a cluster has its own
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
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
    cold = context.py_executable != sys.executable or bool(context.override_worker_entrypoint)  # another Python
    match context.command_prefix:
        case []:
            pass
        case ["cd", folder, "&&"]:
            os.chdir(shlex.split(folder)[0])
        case _:
            cold = True
    if cold:
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
    main(socket.socket(fileno=int(sys.argv[1])))
