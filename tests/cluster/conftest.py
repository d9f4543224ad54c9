"""A cluster for jobs, once for the tests of this folder, started as `cluster up` starts one but for warm workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import whisperfleet.__main__ as command
from cluster import local
from cluster.jobs import Cluster
from cluster.local import Head, down, up
from cluster.ports import free_ports
from tests.warm.processes import warm

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"object-store-memory": str(100 * 1024**2), "num-cpus": "6"}


@dataclass(frozen=True)
class Running:
    """A head, its folder, and the file of its token, which the test run does not use: its own Ray has another one."""

    head: Head
    folder: Path
    token: Path

    def start(self, *words: str, **settings: str) -> subprocess.Popen[str]:
        """Start the command in a process of its own, for which this head is the cluster. An empty setting is none."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        variables |= {"RAY_ADDRESS": self.head.address, "RAY_AUTH_TOKEN_PATH": str(self.token), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "whisperfleet", *words],
            env={name: value for name, value in (variables | settings).items() if value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.start(*words, **settings) as process:
            out, err = process.communicate(timeout=400)
        return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.fixture(scope="package")
def running() -> Iterator[Running]:
    detach = local._detach
    with TemporaryDirectory(prefix="wf-", dir="/tmp") as scratch:
        place, token = Path(scratch), Path(scratch, "token")
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
                patch.setattr(local, "_detach", lambda command, log: detach(warm(command), log))
                head = up(place, *free_ports(1), OPTIONS)
            yield Running(head, place, token)
        finally:
            down(place)
        assert not head.is_running


Verb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def verb(running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run the command to its end as ``Running.run`` does, but in this process: another one imports for seconds."""
    monkeypatch.setattr(command.termination, "take", lambda: None)  # the signal is the test run's
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", running.head.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(running.token))

    def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["whisperfleet", *words])
            for name, value in settings.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                command.main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def cluster(running: Running, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(running.token))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Cluster(running.head.address)
