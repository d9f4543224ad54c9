"""How a process asks ``tests.warm.server`` for another one.

The raylet of a test session starts this file in place of Ray's ``setup_worker.py``, for each worker: it imports little.
"""

from __future__ import annotations

import marshal
import os
import select
import socket
import sys
from collections.abc import Mapping, Sequence

ADDRESS = "WHISPERFLEET_TESTS_WARM_SERVER"
"""The environment variable that says where the server listens."""

RAY_WORKER = os.path.abspath(__file__)
"""What the server is asked to run for a worker of Ray: the first word of the command."""


def ask(
    address: str, command: Sequence[str], environment: Mapping[str, str], folder: str, streams: tuple[int, int, int]
) -> int:
    """Return the number of a new process that runs ``command``: ``-c CODE ...``, or ``RAY_WORKER ...``.

    ``streams`` are the file descriptors of its input, output and errors.
    """
    asked = marshal.dumps((list(command), dict(environment), folder))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(asked).to_bytes(8, "big")], streams)
        connection.sendall(asked)
        return int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")


def has_ended(process: int, within_s: float | None = None) -> bool:
    """Wait until a process has ended, or the time is over."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    has_ended(ask(os.environ[ADDRESS], [RAY_WORKER, *sys.argv[1:]], os.environ, os.getcwd(), (0, 1, 2)))
