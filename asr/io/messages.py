"""Messages between a process and the child that it decodes in: frames of JSON on a Unix socket."""

from __future__ import annotations

import json
import math
import select
import socket
import struct
import time
from collections.abc import Mapping

from asr.parsed import JsonObject

MAX_FRAME_BYTES = 1 << 20

ASKED = struct.Struct("<i")  # of what forks children: the id of one whose time is over, or 0
BORN = struct.Struct("<ii")  # its answer: how that one ended, as ``subprocess`` has it, and the id of a new one

_LENGTH = struct.Struct("<I")


def send(to: socket.socket, message: Mapping[str, object]) -> None:
    """Send a frame: the length of some JSON, and the JSON."""
    body = json.dumps(message).encode()
    to.sendall(_LENGTH.pack(len(body)) + body)


def receive(of: socket.socket, until: float | None = None) -> JsonObject:
    """Return the next frame.

    Raises EOFError where the other side has gone, ValueError for what is no frame, and TimeoutError where it is not
    whole at the time ``until`` (``time.monotonic``): each of a million bytes may come just in time for itself.
    """
    (length,) = _LENGTH.unpack(read(of, _LENGTH.size, until))
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    try:
        message = json.loads(read(of, length, until))
    except RecursionError:
        raise ValueError("a frame without an end") from None
    if not isinstance(message, dict):
        raise ValueError("a frame without an object")
    return message


def read(of: socket.socket, count: int, until: float | None = None) -> bytes:
    """Return exactly so many bytes. Raises EOFError where there are fewer, TimeoutError as ``receive``."""
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        if until is not None:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            of.settimeout(left_s)
        more = of.recv_into(view[got:])
        if not more:
            raise EOFError
        got += more
    return bytes(data)


def readable(descriptor: int, timeout_s: float) -> bool:
    """Wait until there is something to read, or an end; False where there is none in so many seconds."""
    poll = select.poll()  # of an endpoint with a thousand connections, select knows none that comes after them
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(math.ceil(max(timeout_s, 0.0) * 1000)))
