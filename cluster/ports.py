"""Ports for servers that another process starts, a minute later on a busy machine."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

# The kernel gives a port from its own range to any connection that is made, so one from there is soon taken. Below it,
# Ray's workers have theirs by default, up to 19,999.
_FIRST = 20_000
_KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_KERNELS_FIRST = 32_768  # where that cannot be read
_TRIES = 1_000


def free_ports(count: int, family: socket.AddressFamily = socket.AF_INET) -> list[int]:
    """Return as many different ports, on which nothing listens and which no connection will take by chance.

    Raises OSError where there are not so many.
    """
    candidates = range(_FIRST, max(min(_kernels_first(), 65_536), _FIRST + 1))
    chosen = random.SystemRandom().sample(candidates, min(_TRIES, len(candidates)))
    with ExitStack() as held:
        found = list(islice((port for port in chosen if _is_free(port, family)), count))
        while len(found) < count:  # a kernel that was told to give all ports
            found.append(_bound(held.enter_context(socket.socket(family)), 0))
        return found


def _kernels_first() -> int:
    try:
        return int(_KERNELS.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _KERNELS_FIRST


def _is_free(port: int, family: socket.AddressFamily) -> bool:
    with socket.socket(family) as probe:
        try:
            _bound(probe, port)
        except OSError:
            return False
    return True


def _bound(probe: socket.socket, port: int) -> int:
    probe.bind(("", port))
    return int(probe.getsockname()[1])
