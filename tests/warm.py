"""Processes that have imported training and DeepSpeed already: forked from one that has done it once for all tests."""

from __future__ import annotations

import os
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


@dataclass(frozen=True)
class Ended:
    """How a process ended and what it had said, as of ``subprocess.run``."""

    returncode: int | None
    stdout: str
    stderr: str


class Script:
    """Python code in a process of its own, as ``python -c`` would run it."""

    def __init__(self, code: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._said = Path(tempfile.mkdtemp(prefix="wf-warm-"))
        given = (code, list(arguments), dict(environment or {}), self._said)
        self._process: BaseProcess = _warm.Process(target=_run, args=given)
        self._process.start()

    def wait(self, timeout_s: float) -> Ended:
        """Return how it ended. One that has not by then is killed, and has no exit code."""
        self._process.join(timeout_s)
        ended = self._process.exitcode
        self.kill()
        return Ended(ended, *((self._said / name).read_text() for name in ("stdout", "stderr")))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _run(code: str, arguments: list[str], environment: dict[str, str], said: Path) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
    os.environ |= environment
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
