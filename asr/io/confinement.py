"""Confines a process that parses strangers' files: the kernel is asked part by part, and may refuse each part.

Linux only. Code that runs in the process after that has its descriptors and bounded memory, and no way to more.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Mapping

from asr.io import seccomp

# What a child needs of its parent's environment: where programs and packages lie, and how text and numbers are written.
# By name, so that no key is in it, whatever it is called.
ENVIRONMENT = frozenset(
    {"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONHOME"}
    | {"PYTHONHASHSEED", "PYTHONMALLOC", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"}
)
MAX_OPEN_FILES = 80
SHARED_BYTES = 64 << 20  # that may be mapped beyond what counts as data: buffers of the kernel, a stack that grows

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38

# linux/landlock.h; the numbers of the calls are the same on all machines
_CREATE_RULESET, _RESTRICT_SELF, _ASK_VERSION = 444, 446, 1
# By version of the interface: how to read and write files, and from 4 on TCP, from 6 on signals and abstract sockets.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_FROM, _SCOPES_FROM = 4, 6

_libc = ctypes.CDLL(None, use_errno=True)


def environment(path: str) -> dict[str, str]:
    """Return a clean environment for a child that finds its packages on ``path``, as PYTHONPATH has it."""
    kept = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # a codec needs no more
    return kept | one | {"PYTHONPATH": path}


def end_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    deaf()


def deaf() -> None:
    """Have this process ignore the terminal's signals, and end where it writes too much."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent still drains
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def bounds(memory_bytes: int) -> dict[int, int]:
    """Return limits (``resource.RLIMIT_...``: bytes) for a copy of this process.

    ``memory_bytes`` are what it may take beyond what there is now.
    """
    with open("/proc/self/status", encoding="ascii") as file:
        status = file.read()
    return {
        limit: 1024 * int(status.split(name)[1].split()[0]) + memory_bytes + spare
        for limit, name, spare in ((resource.RLIMIT_DATA, "VmData:", 0), (resource.RLIMIT_AS, "VmSize:", SHARED_BYTES))
    }


def restrict() -> list[str]:
    """Take files, privileges and the terminal from this process and from all that it forks, which it still may do.

    Returns what the kernel of this machine does not give, in words, with its reason; everything must have been imported
    before.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)  # what is written to a terminal may be more than text, and a log can be filled
    os.close(null)
    return _refused(
        {
            "being no target of debuggers": lambda: _prctl(_PR_SET_DUMPABLE, 0),
            "no new privileges": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
            "landlock (no files)": _landlock,
        }
    )


def confine(most: Mapping[int, int], more_bytes: int = 0) -> list[str]:
    """Take from this process, after ``restrict``, all that is left that it can do to others, with limits of ``bounds``.

    ``Allowance`` may raise them by ``more_bytes``. Returns what ``restrict`` does.
    """
    return _refused(
        {
            "limits on memory, files and processes": lambda: _limit(most, more_bytes),
            "seccomp (no network, files and processes)": lambda: seccomp.install(_libc),
        }
    )


def _refused(parts: Mapping[str, Callable[[], None]]) -> list[str]:
    missing = []
    for name, ask in parts.items():
        try:
            ask()
        except (OSError, ValueError) as error:
            missing.append(f"{name}: {error}")
    return missing


class Allowance:
    """Allowance of a confined child for one recording, set from outside and anew for each.

    Raises OSError where the kernel does not let it be set.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._clock = pid, (~pid << 3) | 2  # linux/posix-timers.h: CPU time of a process
        kinds = (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA, resource.RLIMIT_AS)
        self._hard = {kind: resource.prlimit(pid, kind)[1] for kind in kinds}

    def renew(self, cpu_s: float, file_bytes: int, memory: Mapping[int, int] | None = None) -> None:
        """Let it use so many more seconds of CPU, write files of so many bytes, and have ``memory``, as ``bounds``."""
        for kind, nbytes in (memory or {}).items():
            self._set(kind, nbytes)
        used_s = time.clock_gettime(self._clock)
        self._set(resource.RLIMIT_CPU, math.ceil(used_s + cpu_s))
        self._set(resource.RLIMIT_FSIZE, file_bytes)

    def _set(self, kind: int, most: int) -> None:
        hard = self._hard[kind]
        resource.prlimit(self._pid, kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _limit(most: Mapping[int, int], more_bytes: int) -> None:
    for limit, nbytes in most.items():
        resource.setrlimit(limit, (nbytes, nbytes + more_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))


def _landlock() -> None:
    """Forbid to open any file, and what else the kernel's version of landlock knows."""
    version = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    rights = [(1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1]
    rights += [0b11] if version >= _NETWORK_FROM else []
    rights += [0b11] if version >= _SCOPES_FROM else []
    wanted = struct.pack(f"{len(rights)}Q", *rights)
    rules = _call(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), ctypes.c_uint(0))
    try:
        _call(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    finally:
        os.close(rules)


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))))


def _call(number: int, *arguments: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def _checked(answer: int) -> int:
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return answer
