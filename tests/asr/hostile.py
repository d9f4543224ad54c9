"""A codec that was taken over: a recording says in plain words what it tries. It runs in the real, confined child.

What it could do is the DataError ``did_it``; what it could not, ``refused``, with the kernel's words.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import platform
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.container import OpenFile
from asr.audio.decode import decode_to
from asr.audio.sandbox_child import main
from asr.errors import DataError
from asr.sound import SoundReport

_libc = ctypes.CDLL(None, use_errno=True)
_PARENT = os.getppid()
_WITH_SAMPLES = ("huge_file", "touch", "no_number", "pin")
_HEARD: list[str] = []
_PINNED: list[mmap.mmap] = []


def _call(function: Callable[..., int], *arguments: object) -> str:
    answer = function(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return str(answer)


def environment(what: str) -> str:
    return " ".join(name for name, value in os.environ.items() if what in f"{name}={value}")


def read_file(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def read_file_by_call(path: str) -> str:
    numbers = {"x86_64": (257, 2, 437), "aarch64": (56, 437)}[platform.machine()]
    faults = []
    for number in numbers:
        arguments = (path.encode(), 0, 0) if number == 2 else (-100, path.encode(), 0, 0)
        try:
            return _call(_libc.syscall, number, *arguments)
        except OSError as error:
            faults.append(str(error))
    raise OSError("; ".join(faults))


def write_file(path: str) -> str:
    return str(Path(path).write_text("I was here", encoding="utf-8"))


def remove_file(path: str) -> str:
    Path(path).unlink()
    return "gone"


def connect(port: str) -> str:
    with socket.socket() as to:
        to.connect(("127.0.0.1", int(port)))
        to.sendall(b"a secret")
    return "sent"


def connect_unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as to:
        to.connect(path)
    return "connected"


def pair(_: str) -> str:
    return str(socket.socketpair())


def abort(_: str) -> str:
    os.abort()


def fork(_: str) -> str:
    child = os.fork()
    if not child:
        os._exit(0)
    return str(child)


def execute(_: str) -> str:
    os.execv("/bin/true", ["true"])


def spawn(_: str) -> str:
    return subprocess.run(["/bin/echo", "hi"], capture_output=True, text=True, check=True).stdout


def thread(_: str) -> str:
    started = threading.Thread(target=print)
    started.start()
    return "started"


def trace(_: str) -> str:
    return _call(_libc.ptrace, 16, _PARENT, 0, 0)  # PTRACE_ATTACH


def peek(_: str) -> str:
    here = (ctypes.c_char * 8)()
    one = (ctypes.c_size_t * 2)(ctypes.addressof(here), 8)
    there = (ctypes.c_size_t * 2)(0x400000, 8)
    return _call(_libc.process_vm_readv, _PARENT, one, 1, there, 1, 0)


def kill(_: str) -> str:
    os.kill(_PARENT, signal.SIGTERM)
    return "sent"


def kill_by_thread(_: str) -> str:
    return _call(_libc.syscall, {"x86_64": 234, "aarch64": 131}[platform.machine()], _PARENT, _PARENT, signal.SIGTERM)


def io_uring(_: str) -> str:
    return _call(_libc.syscall, 425, 1, (ctypes.c_char * 256)())


def i_am_32_bit(_: str) -> str:
    return _call(_libc.syscall, 0x40000000 + 39)  # the x32 table's getpid


def machine_code(_: str) -> str:
    return str(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))


def raise_limit(_: str) -> str:
    return _call(_libc.setrlimit, 0, (ctypes.c_ulong * 2)(2**63, 2**63))


def descriptors(_: str) -> str:
    """Tell what is open beside the standard streams: the socket, the file for samples and the recording are to be."""
    found = []
    for number in range(3, 1024):
        try:
            os.lseek(number, 0, os.SEEK_CUR)
            found.append(f"{number} is a file")
        except OSError as error:
            found += [f"{number} is a socket or pipe"] if error.errno != 9 else []
    return ", ".join(found)


def overwrite(_: str) -> str:
    """Write to all there is: the recording is somebody's file."""
    written = []
    for number in range(3, 64):
        try:
            os.pwrite(number, b"I was here", 0)
            written.append(str(number))
        except OSError:
            continue
    return " ".join(written)


def fill_memory(_: str) -> str:
    held = []
    while True:
        held.append(bytearray(16 << 20))


def fill_shared_memory(_: str) -> str:
    held = []
    for _count in range(1000):
        try:
            held.append(mmap.mmap(-1, 16 << 20))
        except OSError as error:
            raise MemoryError from error
        held[-1][:: mmap.PAGESIZE] = bytes(len(held[-1][:: mmap.PAGESIZE]))
    return f"{len(held) * 16} MB"


def spin(_: str) -> str:
    while True:
        pass


def huge_file(sink: Callable[[np.ndarray], object]) -> str:
    block = np.zeros(1 << 18, np.float32)
    for _ in range(4096):
        sink(block)
    return "4 GB"


def drip(after_s: str) -> str:
    """Begin a long answer and send a byte of it now and then."""
    time.sleep(float(after_s or 0))
    tell(struct.pack("<I", 1 << 20))
    while True:
        tell(b" ")
        time.sleep(0.05)


def ask_again(_: str) -> str:
    """Ask for the same byte for ever."""
    while True:
        tell(frame('{"read": [0, 0, 1]}'))
        (length,) = struct.unpack("<I", heard(4))
        heard(json.loads(heard(length))["bytes"])
        time.sleep(0.05)


def answer(text: str) -> str:
    """Answer whatever is told, and nothing more."""
    tell(frame(text))
    time.sleep(600)
    return ""


def bug(text: str) -> str:
    raise KeyError(text.encode().decode("unicode_escape"))


def touch(sink: Callable[[np.ndarray], object]) -> str:
    """Write the same samples for ever."""
    while True:
        for number in range(3, 80):
            with contextlib.suppress(OSError):
                os.pwrite(number, bytes(4), 0)
        time.sleep(0.05)


def no_number(sink: Callable[[np.ndarray], object]) -> SoundReport:
    sink(np.full(16_000, np.nan, np.float32))
    return SoundReport(16_000)


def spy(_: str) -> str:
    """Stay, and listen to whoever comes next."""
    _HEARD.append("somebody")
    return "listening"


def replay(_: str) -> str:
    return " ".join(_HEARD)


def pin(sink: Callable[[np.ndarray], object]) -> str:
    """Keep all samples of a file by mapping one page of it, and change them once they have been looked at."""
    sink(np.ones(1 << 20, np.float32))
    for number in range(3, 80):
        with contextlib.suppress(OSError, ValueError):
            _PINNED.append(mmap.mmap(number, mmap.PAGESIZE))
    return "mine"


def the_socket() -> int:
    return next(number for number in range(3, 80) if stat.S_ISSOCK(os.fstat(number).st_mode))


def tell(data: bytes) -> None:
    os.write(the_socket(), data)


def heard(count: int) -> bytes:
    return b"".join(os.read(the_socket(), 1) for _ in range(count))


def frame(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def say(text: str) -> str:
    print(text, flush=True)
    print(text, file=sys.stderr, flush=True)
    return "said"


def decode_or_attack(sink: Callable[[np.ndarray], object], source: OpenFile, **asked: Any) -> SoundReport:
    """Decode, but for files that end with the word ATTACK, and which one."""
    _, attack, which = source.file.read().rpartition(b"ATTACK ")
    if not attack:
        return decode_to(sink, source, **asked)
    name, _, argument = which.decode().partition(" ")
    try:
        done = globals()[name](sink if name in _WITH_SAMPLES else argument)
    except OSError as error:
        raise DataError("refused", str(error)) from None
    except RuntimeError as error:  # "can't start new thread"
        raise DataError("refused", str(error)) from None
    if isinstance(done, SoundReport):
        return done
    raise DataError("did_it", done)


if __name__ == "__main__":
    main(decode_or_attack)
