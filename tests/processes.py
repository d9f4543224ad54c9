"""Processes that a test has started, and all that these have: told by a mark in their environment."""

from __future__ import annotations

import time

import psutil

MARK = "WHISPERFLEET_TEST"
PATIENCE_S = 20.0


def left_over(mark: str, patience_s: float = PATIENCE_S) -> list[psutil.Process]:
    """Return what still runs of those whose environment has ``MARK=mark``, once they have had time to end."""
    until = time.monotonic() + patience_s
    while (left := [one for one in psutil.process_iter() if _has(one, mark)]) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def below(*words: str) -> list[psutil.Process]:
    """Return what this process has started, and all that these have, with these words in their command line.

    What has ended, or ends meanwhile, has none: a zombie is there until its parent asks for it.
    """
    return [one for one in psutil.Process().children(recursive=True) if all(word in command(one) for word in words)]


def command(process: psutil.Process | None) -> str:
    """Return the command line of a process, with spaces between; nothing for one that has ended."""
    try:
        return " ".join(process.cmdline()) if process else ""
    except psutil.Error:
        return ""


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(MARK) == mark)
    except psutil.Error:
        return False
