"""A cluster of this machine alone that outlives the command that starts it, with a dashboard and a token."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import requests

from asr.errors import UserError
from cluster import auth, scratch, termination
from cluster.ports import free_ports
from cluster.ray_settings import ENVIRONMENT, is_late
from cluster.resources import WAITING_ACTORS

DASHBOARD_PORT = 8265
_HOST = "127.0.0.1"
_STARTS_S, _ENDS_S, _POLL_S = 90.0, 30.0, 0.2
_RECORD, _LOG = "head.json", "head.log"
_DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"  # seconds for work to move to other nodes, of which there are none
_RAY = "ray"  # within: Ray lets everybody write to the folder that it is given
_ADDRESS = "ray_current_cluster"  # Ray writes it: of loopback it makes an address that other machines can reach

# Detached by a shell that ends at once, so that the head is nobody's child and no terminal's either.
_DETACH = 'log=$1; shift; "$@" >"$log" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True)
class Head:
    """A running head: its dashboard, Ray's own address, and its process, the group of that and when it began."""

    address: str
    gcs: str
    pid: int
    group: int
    born: str

    @property
    def is_running(self) -> bool:
        """Return whether that process, and no later one of the same number, is running."""
        return _born(self.pid) == self.born


def folder() -> Path:
    """Return where a user's local cluster lies. Short: paths of sockets in it may not be over 107 bytes."""
    return Path(f"/tmp/whisperfleet-{os.getuid()}")


def running(path: Path) -> Head | None:
    """Return the head that ``up`` started in ``path``, None where it does not run."""
    try:
        head = Head(**json.loads((path / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return head if head.is_running else None


def up(path: Path, port: int = DASHBOARD_PORT, options: Mapping[str, str] | None = None) -> Head:
    """Start a head with its files in ``path``, or return the one that runs there already.

    ``port`` is that of its dashboard, on loopback; ``options`` are for ``ray start``. Raises UserError where it does
    not come up.
    """
    if head := running(path):
        return head
    _claim(path)
    scratch.require_room(path, "the same command starts it")
    auth.ensure_token()
    free, client = free_ports(2)
    wanted = {
        "node-ip-address": _HOST,
        "port": str(free),
        "dashboard-host": _HOST,
        "dashboard-port": str(port),
        "ray-client-server-port": str(client),
        "dashboard-agent-listen-port": "0",
        "min-worker-port": "0",  # any: the default range is that of every other Ray on this machine
        "max-worker-port": "0",
        "num-cpus": str((os.cpu_count() or 1) + WAITING_ACTORS),
        "temp-dir": str(path / _RAY),
        **(options or {}),
    }
    if _listens(port):
        raise UserError(f"port {port} of {_HOST} is taken", "whisperfleet cluster up --port ANOTHER")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in wanted.items()]
    head = _start(command, path, port, free)
    if not _is_up(head, path) and is_late(_said(path)):
        head = _start(command, path, port, free)  # what the first one read from disk is in memory now
    if not _is_up(head, path):
        raise UserError(f"no cluster came up: {_said(path)}", f"all that it said: {path / _LOG}")
    head = replace(head, gcs=(path / _RAY / _ADDRESS).read_text(encoding="utf-8").strip())
    (path / _RECORD).write_text(json.dumps(asdict(head)), encoding="utf-8")
    return head


def down(path: Path) -> Head | None:
    """End the head that ``up`` started in ``path``, with all its processes and no others; None where none ran."""
    head = running(path)
    if head is not None:
        os.kill(head.pid, signal.SIGTERM)
        until = time.monotonic() + _ENDS_S
        while head.is_running and time.monotonic() < until:
            time.sleep(_POLL_S)
        with suppress(ProcessLookupError):
            os.killpg(head.group, signal.SIGKILL)  # what did not end by itself
    (path / _RECORD).unlink(missing_ok=True)
    return head


def _claim(path: Path) -> None:
    """Make the folder, for this user only: in /tmp another one might have made it first."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise UserError(f"{path}: another user's folder is in the way", "remove it")


def _detach(command: list[str], log: Path) -> int:
    # without RAY_ADDRESS, which may name another cluster, whose name Ray would take for this one's
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {name: environment.get(name, value) for name, value in ENVIRONMENT.items()} | {
        auth.MODE: "token",
        _DRAIN: "5",
    }
    with termination.given_to_children():  # as the head's process, which takes it to end
        done = subprocess.run(
            ["/bin/sh", "-c", _DETACH, "sh", str(log), *command],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            start_new_session=True,
        )
    return int(done.stdout)


def _start(command: list[str], path: Path, port: int, free: int) -> Head:
    (path / _RAY / _ADDRESS).unlink(missing_ok=True)  # of an earlier one
    pid = _detach(command, path / _LOG)
    head = Head(f"http://{_HOST}:{port}", f"{_HOST}:{free}", pid, os.getpgid(pid), _born(pid))
    (path / _RECORD).write_text(json.dumps(asdict(head)), encoding="utf-8")
    return head


def _is_up(head: Head, path: Path) -> bool:
    """Wait until a head answers, and return whether it does; one that does not is ended."""
    until = time.monotonic() + _STARTS_S
    while time.monotonic() < until and head.is_running:
        try:
            answer = requests.get(f"{head.address}/api/version", headers=auth.headers(), timeout=5)
        except requests.RequestException:
            time.sleep(_POLL_S)
            continue
        if answer.status_code == requests.codes.ok and (path / _RAY / _ADDRESS).is_file():
            return True
        time.sleep(_POLL_S)
    down(path)
    return False


def _said(path: Path) -> str:
    """Return the last line of what a head said."""
    lines = (path / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _born(pid: int) -> str:
    """Return when a process began, in words that no other one of the same number shares; "" where it has ended.

    Ticks since boot: psutil's public ``create_time`` adds the time of boot, which moves when the clock is set.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return ""
        state, began = fields[0], fields[19]
    else:
        argv = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        state, _, began = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.partition(" ")
    return "" if state.startswith("Z") else began.strip()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_HOST, port)) == 0
