"""Processes that have imported training and DeepSpeed already, forked from one that does it once for a test process."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

_warm = get_context("forkserver")
_warm.set_forkserver_preload(["train.worker", "deepspeed"])
_STREAMS = ("stdout", "stderr")


@dataclass(frozen=True)
class Ended:
    """What a process had said by its end."""

    stdout: str
    stderr: str


class Script:
    """Python code in a process of its own, with this one's environment and working directory."""

    def __init__(self, code: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._said = Path(tempfile.mkdtemp(prefix="wf-warm-"))
        for name in _STREAMS:
            (self._said / name).touch()
        given = (code, list(arguments), {**os.environ, **(environment or {})}, os.getcwd(), self._said)
        self._process: BaseProcess = _warm.Process(target=_run, args=given, daemon=True)
        self._process.start()

    def wait(self, timeout_s: float) -> Ended:
        """Return what it said. One that has not ended by then is killed."""
        self._process.join(timeout_s)
        self._process.kill()
        self._process.join()
        said = Ended(*((self._said / name).read_text() for name in _STREAMS))
        shutil.rmtree(self._said)
        return said


def _run(code: str, arguments: list[str], environment: dict[str, str], folder: str, said: Path) -> None:
    for number, name in enumerate(_STREAMS, start=1):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ |= environment
    os.chdir(folder)
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
