from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from asr.errors import UserError
from asr.utterance import Utterance
from serve.cli import _until_signal, serve
from tests.litter import litter
from tests.speed import WAIT_S

ENDS_S = 30.0
IN_A_HURRY = {"RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "0.0001"}


def of_session(session: int) -> list[int]:
    """The living processes of a session: of a command that was started with one of its own, and of its Ray."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


@dataclass(frozen=True)
class Served:
    """The process of a ``serve`` of its own, whose Ray belongs to its session, and what it said once it was ready."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.ready["url"])


@contextmanager
def served(model: str, folder: Path, **environment: str) -> Iterator[Served]:
    """Run one for the length of the block, in a folder; then it is killed, if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "whisperfleet", "serve", model, "name=tiny", "port=0", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
    ) as process:
        assert process.stdout and process.stderr
        try:
            ready = process.stdout.readline()
            assert ready, process.stderr.read()
            yield Served(process, json.loads(ready))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            gone(process.pid)


def gone(session: int) -> bool:
    """Wait until no process of a session is left that was killed; return whether that is so."""
    until = time.monotonic() + ENDS_S
    while of_session(session) and time.monotonic() < until:
        time.sleep(0.1)
    return not of_session(session)


def names(session: int) -> set[str]:
    return {psutil.Process(pid).name() for pid in of_session(session)}


def open_ports(session: int) -> set[int]:
    """The ports at which processes of a session listen to the outside."""
    return {
        connection.laddr.port
        for pid in of_session(session)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip in ("0.0.0.0", "::")
    }


def is_the_endpoint(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=10)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and '"object":"list"' in answer.text  # Ray's figures are at any path


@pytest.fixture(scope="module")
def command(tiny_en_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The verb as a person starts it; the last of the three tests of it ends it.

    Ray is told to expect each answer at once, so that it warns of the slow ones as it does on a busy machine.
    """
    with served(tiny_en_name, litter(tmp_path_factory.mktemp("here")), **IN_A_HURRY) as running:
        yield running


@pytest.mark.ray
@pytest.mark.slow
def test_serve_says_where_and_what_and_then_hears_words(command: Served, english_clips: list[Utterance]) -> None:
    ready = command.ready
    assert ready["model"] == "tiny"
    assert (ready["engine"], ready["precision"], ready["context"]) == ("ctranslate2", "int8", "full")
    assert httpx.get(f"{command.url}/readyz", timeout=WAIT_S).status_code == 200
    with openai.OpenAI(base_url=f"{command.url}/v1", api_key="none-needed", max_retries=0) as client:
        audio = Path(str(english_clips[0].audio)).read_bytes()
        heard = client.audio.transcriptions.create(model="tiny", file=("clip.flac", audio))
    assert len(heard.text.split()) >= 8


@pytest.mark.ray
@pytest.mark.slow
def test_it_is_behind_haproxy_and_lets_nobody_in_from_outside(command: Served) -> None:
    session = command.process.pid
    assert "haproxy" in names(session)
    assert is_the_endpoint(int(command.url.rpartition(":")[2]))
    outside = open_ports(session)
    assert outside  # of Ray itself, and HAProxy's figures
    with ThreadPoolExecutor(len(outside)) as pool:  # some of Ray's never answer
        assert not any(pool.map(is_the_endpoint, outside))


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_ends_it_and_leaves_nothing_behind(command: Served) -> None:
    process = command.process
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does: everybody in the foreground gets it
    rest, complaints = process.communicate(timeout=120)
    assert (process.returncode, rest, complaints) == (0, "", "")
    assert of_session(process.pid) == []


@pytest.mark.parametrize(
    ("model", "settings", "mistake"),
    [
        ("", [], "there is no model"),
        ("prt=1", [], "did you mean 'port'"),
        ("models.it=/nowhere", ["port=0"], "no checkpoint '/nowhere'"),
        ("s3://bucket/m?endpoint_override=x", ["prt=1"], "did you mean 'port'"),
    ],
)
def test_the_models_may_stand_in_the_settings_alone(model: str, settings: list[str], mistake: str) -> None:
    with pytest.raises(UserError, match=mistake):
        serve(model, settings)


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "port=0").mkdir()
    with pytest.raises(UserError, match="port=0: no checkpoint in this folder"):
        serve("port=0")


def test_mistakes_in_the_settings_are_all_named() -> None:
    with pytest.raises(UserError, match=r"replicas.*\n.*did you mean 'port'"):
        serve("builtin:tiny.en", ["prt=1", "replicas=0"])


def test_ctrl_c_that_came_just_before_a_wait_was_noticed_at_the_second_only() -> None:
    """What a thread is sent wakes no wait of the main one, as what comes a moment before that wait does not."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt() -> None:
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        _until_signal()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    sender.join()
