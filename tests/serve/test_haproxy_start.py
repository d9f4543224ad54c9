from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from serve import haproxy_start
from serve.haproxy_start import HEAD_S, MAX_CONNECTIONS, connections, with_limits
from tests.speed import WAIT_S

SCRIPT = Path(haproxy_start.__file__)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A configuration as the installed Ray writes it."""
    backend = BackendConfig(
        name="app",
        path_prefix="/",
        app_name="app",
        servers=[ServerConfig(name="ingress", host="127.0.0.1", port=30000)],
    )
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=8123),
        socket_path=str(tmp_path / "admin.sock"),
        server_state_base=str(tmp_path),
        server_state_file=str(tmp_path / "server-state"),
    )
    path = tmp_path / "haproxy.cfg"
    HAProxyApi(config, {"app": backend}, str(path))._generate_config_file_internal()
    return path


def checked(path: Path, *listen: str) -> str:
    """What HAProxy itself complains of, started by the script."""
    environment = {name: value for name, value in os.environ.items() if name != haproxy_start.BINARY}
    command = [sys.executable, "-I", str(SCRIPT), *listen, "-c", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("listen", [(), ("--listen", "0.0.0.0")])
def test_haproxy_takes_rays_configuration_with_limits(written: Path, listen: tuple[str, ...]) -> None:
    complaints = checked(written, *listen)
    assert "already specified" not in complaints and "ignored because" not in complaints
    text = written.read_text()
    assert f"timeout http-request {HEAD_S}s" in text
    assert text.count("timeout client ") == 1
    assert "sc0_conn_cur gt" in text and "disable-h2-upgrade" in text
    assert ("bind 0.0.0.0:8123" in text) == bool(listen)
    outside = [line for line in re.findall(r"bind (\S+)", text) if line.startswith((":", "*"))]
    assert bool(outside) != bool(listen)  # Ray's figures


def test_what_whoever_starts_ray_has_decided_stays(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S", "7")
    monkeypatch.setenv("RAY_SERVE_HAPROXY_MAXCONN", "4096")
    text = written.read_text()
    limited = with_limits(text, 1000)
    for line in ("maxconn 4096", "timeout client 3600s"):
        assert line in text and line in limited
    assert "sc0_conn_cur gt 500" in limited


def test_another_rays_configuration_is_refused_rather_than_left_without_limits(written: Path) -> None:
    for line in ("frontend http_frontend", "    maxconn 4096", "    default_backend default_backend"):
        assert line in written.read_text()
        with pytest.raises(ValueError, match="is this another Ray"):
            with_limits(written.read_text().replace(line, line.upper()), 1000)


def test_there_are_files_for_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 20_000))
    assert 9_000 < connections() < 10_000
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1_048_576))
    assert connections() == MAX_CONNECTIONS
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert connections() == MAX_CONNECTIONS


@pytest.mark.medium
def test_it_never_starts_itself_where_ray_is_told_to_start_it(written: Path) -> None:
    """As on a cluster: Ray's variable names the script."""
    environment = os.environ | {
        haproxy_start.BINARY: str(SCRIPT),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    done = subprocess.run([SCRIPT, "-v"], capture_output=True, text=True, check=False, env=environment, timeout=WAIT_S)
    assert "HAProxy version" in done.stdout, done.stderr
