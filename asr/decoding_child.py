"""The process in which a server decodes what strangers send: a codec that crashes in it ends nothing else.

    python -m asr.decoding_child SOCKET MEMORY_BYTES

``SOCKET`` is the descriptor of a Unix socket. On it come, one after the other, requests: a frame with JSON, ``path``
(an address) or the number of ``bytes`` that follow, the ``limits`` and the ``choice`` of track and channel; then one
byte with the descriptor of a file. The samples go into that file, float32 at 16 kHz, silence as holes; a frame with
JSON answers: the ``report``, or the ``reason`` and ``detail`` of a DataError, or the traceback of a ``bug``. The
process ends with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from asr.audio import AudioLimits, decode_to
from asr.errors import DataError
from asr.sound import SoundChoice, SoundReport
from asr.sounding import SparseWriter

READY = {"ready": True}
MAX_FRAME_BYTES = 1 << 20

_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1

Decode = Callable[..., SoundReport]


def send(to: socket.socket, message: dict[str, Any]) -> None:
    """Send a frame: the length of some JSON, and the JSON."""
    body = json.dumps(message).encode()
    to.sendall(_LENGTH.pack(len(body)) + body)


def receive(of: socket.socket) -> dict[str, Any]:
    """Return the next frame. Raises EOFError where the other side has gone, ValueError for what is no frame."""
    (length,) = _LENGTH.unpack(read(of, _LENGTH.size))
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    message = json.loads(read(of, length))
    if not isinstance(message, dict):
        raise ValueError("a frame without an object")
    return message


def read(of: socket.socket, count: int) -> bytes:
    """Return exactly so many bytes. Raises EOFError where there are fewer."""
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        more = of.recv_into(view[got:])
        if not more:
            raise EOFError
        got += more
    return bytes(data)


def main(decode: Decode = decode_to) -> None:
    """Answer requests until the parent has gone. ``decode`` is for tests that need one that fails."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent still drains
    _limit(int(sys.argv[2]))
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        send(parent, READY)
        try:
            while True:
                _answer(parent, decode)
        except (EOFError, ConnectionError):
            return


def _limit(memory_bytes: int) -> None:
    """Let this process have so much memory on top of what it begins with, and leave no core file behind."""
    with open("/proc/self/status", encoding="ascii") as status:
        now = 1024 * int(status.read().split("VmData:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (now + memory_bytes, now + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(parent: socket.socket, decode: Decode) -> None:
    request = receive(parent)
    path = request["path"]
    source: str | bytes = read(parent, request["bytes"]) if path is None else path
    _, (place, *_), _, _ = socket.recv_fds(parent, 1, 1)
    try:
        limits, choice = AudioLimits.model_validate(request["limits"]), SoundChoice(**request["choice"])
        samples = SparseWriter(place)
        report = decode(samples.write, source, limits=limits, choice=choice)
        samples.flush()
        answer: dict[str, Any] = {"report": asdict(report)}
    except DataError as error:
        answer = {"reason": error.reason, "detail": error.detail}
    except MemoryError:
        os._exit(os.EX_UNAVAILABLE)  # what is left of this process is not worth keeping
    except Exception:
        answer = {"bug": traceback.format_exc()}
    finally:
        os.close(place)
    send(parent, answer)


if __name__ == "__main__":
    main()
