"""How a process asks ``tests.warm.server`` for another one.

The raylet of a test session starts this file in place of Ray's ``setup_worker.py``, for each worker: it imports little.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

ADDRESS = "WHISPERFLEET_TESTS_WARM_SERVER"
"""The environment variable that says where the server listens: a name without a file."""

RAY_WORKER = os.path.abspath(__file__)
"""What the server is asked to run for a worker of Ray: the first word of the command."""


def ask(
    address: str, command: Sequence[str], environment: Mapping[str, str], folder: str, streams: tuple[int, int, int]
) -> int:
    """Return a descriptor (pidfd) of a new process that runs ``command``: ``-c CODE ...``, or ``RAY_WORKER ...``.

    ``streams`` are the file descriptors of its input, output and errors. It blocks the signals that this one blocks.
    Raises OSError where no process came.
    """
    blocked = [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    asked = marshal.dumps((list(command), dict(environment), folder, blocked))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(f"\0{address}")
        socket.send_fds(connection, [len(asked).to_bytes(8, "big")], streams)
        connection.sendall(asked)
        answer, descriptors, *_ = socket.recv_fds(connection, 1, 1)
    if not answer:
        raise ConnectionError("the server of warm processes ended, or could not fork")
    return descriptors[0]


def has_ended(process: int, within_s: float | None = None) -> bool:
    """Wait until a process has ended, or the time is over."""
    return bool(select.select([process], [], [], within_s)[0])


if __name__ == "__main__":
    has_ended(ask(os.environ[ADDRESS], [RAY_WORKER, *sys.argv[1:]], os.environ, os.getcwd(), (0, 1, 2)))
