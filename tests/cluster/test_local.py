from __future__ import annotations

import json
import os
import socket
import stat
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from asr.errors import UserError
from cluster import local
from cluster.local import Head, down, up
from cluster.ports import free_ports
from tests.cluster.conftest import OPTIONS, Running

ENDS_S = 10.0


def left_of(group: int) -> list[str]:
    """The processes of a group that are there after so long; a zombie is none."""
    until = time.monotonic() + ENDS_S
    while True:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if process.status() != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group:
                    found.append(" ".join(process.cmdline()))
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.2)


def test_what_runs_is_found_and_not_started_again(running: Running) -> None:
    assert up(running.folder) == running.head
    assert local.running(running.folder) == running.head
    assert running.head.address.startswith("http://127.0.0.1:")
    assert stat.S_IMODE(running.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(running.token.stat().st_mode) == 0o600


@pytest.mark.slow  # two heads
def test_down_ends_what_it_started_and_nothing_else(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(running.token))
    with TemporaryDirectory(prefix="wf-", dir="/tmp") as scratch:
        other = up(Path(scratch), *free_ports(1), OPTIONS)
        assert down(Path(scratch)) == other
        assert not other.is_running
        assert left_of(other.group) == []
        assert down(Path(scratch)) is None
    assert running.head.is_running


def test_a_later_process_of_the_same_number_is_not_taken_for_the_head(tmp_path: Path) -> None:
    mine = Head("http://127.0.0.1:1", "127.0.0.1:2", os.getpid(), os.getpgid(0), "earlier")
    (tmp_path / "head.json").write_text(json.dumps(vars(mine)))
    assert local.running(tmp_path) is None
    assert down(tmp_path) is None  # and this test still runs
    assert not (tmp_path / "head.json").exists()
    assert replace(mine, born=local._born(os.getpid())).is_running
    (tmp_path / "head.json").write_text("{")
    assert local.running(tmp_path) is None


def test_a_port_that_is_taken_is_said_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is taken"):
            up(tmp_path, port)


@pytest.mark.slow
def test_what_does_not_come_up_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(UserError, match=r"no cluster came up: .*no-such-option.*head\.log"):
        up(tmp_path / "place", *free_ports(1), {"no-such-option": "1"})
    assert local.running(tmp_path / "place") is None


@pytest.mark.slow
def test_on_a_busy_machine_the_head_that_came_late_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    started: list[list[str]] = []
    detach = local._detach

    def late_at_first(command: list[str], log: Path) -> int:
        started.append(command)
        said = "import sys; sys.exit('Exception: The current node timed out during startup. This could happen')"
        return detach([sys.executable, "-c", said] if len(started) == 1 else command, log)

    monkeypatch.setattr(local, "_detach", late_at_first)
    with TemporaryDirectory(prefix="wf-", dir="/tmp") as scratch:
        head = up(Path(scratch), *free_ports(1), OPTIONS)
        assert (len(started), down(Path(scratch))) == (2, head)


def test_another_user_s_folder_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="another user's folder"):
        up(tmp_path / "link")
