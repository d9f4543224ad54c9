"""SIGTERM in a process of its own, as Python's handlers are one for all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TWICE = """
import os, signal
from cluster import termination
assert not termination.installed()
termination.install()
assert termination.installed() and not termination.asked()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    print("not interrupted")
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)  # a scheduler asks again: the end in good order goes on
    print("interrupted once", termination.asked())
"""

COMMAND = """
import os, signal, sys
import whisperfleet.__main__ as command
def app(**_):
    {body}
command.app = app
command.main()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_sigterm_interrupts_once() -> None:
    assert run(TWICE).stdout.split("\n")[0] == "interrupted once True"


def test_a_command_that_sigterm_ended_says_so_by_its_exit_code() -> None:
    terminated = run(COMMAND.format(body="os.kill(os.getpid(), signal.SIGTERM)"))
    interrupted = "try: os.kill(os.getpid(), signal.SIGTERM)\n    except KeyboardInterrupt: sys.exit(130)"  # as typer
    assert run(COMMAND.format(body=interrupted)).returncode == 128 + signal.SIGTERM
    assert terminated.returncode == 128 + signal.SIGTERM
    in_order = "try: os.kill(os.getpid(), signal.SIGTERM)\n    except KeyboardInterrupt: sys.exit(0)"
    assert run(COMMAND.format(body=in_order)).returncode == 0
    assert run(COMMAND.format(body="sys.exit(2)")).returncode == 2
