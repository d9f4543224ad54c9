"""The system calls that a confined process may still make, as a filter that the kernel runs: all others fail.

It is a list of what is allowed, for Linux on x86_64 and on ARM (aarch64). What is not on it, and what comes later,
fails with EPERM: a library that asks whether it may find out something gets a no and goes on. There is no opening of
files, no socket, no other process or thread, no signal to others, no memory that becomes code.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence

# Calls that need no look at their arguments. The socket is connected for good and its descriptors are there.
_FREE = {
    "x86_64": {
        "read": 0,
        "write": 1,
        "close": 3,
        "fstat": 5,
        "poll": 7,
        "lseek": 8,
        "munmap": 11,
        "brk": 12,
        "rt_sigreturn": 15,
        "pread64": 17,
        "pwrite64": 18,
        "readv": 19,
        "writev": 20,
        "select": 23,
        "sched_yield": 24,
        "mremap": 25,
        "madvise": 28,
        "nanosleep": 35,
        "getpid": 39,
        "sendto": 44,
        "recvfrom": 45,
        "recvmsg": 47,
        "exit": 60,
        "gettimeofday": 96,
        "getrusage": 98,
        "ftruncate": 77,  # of the file of samples, which silence makes longer
        "times": 100,
        "gettid": 186,
        "time": 201,
        "futex": 202,
        "sched_getaffinity": 204,
        "restart_syscall": 219,
        "clock_gettime": 228,
        "clock_getres": 229,
        "clock_nanosleep": 230,
        "exit_group": 231,
        "pselect6": 270,
        "ppoll": 271,
        "getcpu": 309,
        "getrandom": 318,
    },
    "aarch64": {
        "ftruncate": 46,
        "close": 57,
        "lseek": 62,
        "read": 63,
        "write": 64,
        "readv": 65,
        "writev": 66,
        "pread64": 67,
        "pwrite64": 68,
        "pselect6": 72,
        "ppoll": 73,
        "fstat": 80,
        "exit": 93,
        "exit_group": 94,
        "futex": 98,
        "nanosleep": 101,
        "clock_gettime": 113,
        "clock_getres": 114,
        "clock_nanosleep": 115,
        "sched_getaffinity": 123,
        "sched_yield": 124,
        "restart_syscall": 128,
        "rt_sigreturn": 139,
        "times": 153,
        "getrusage": 165,
        "getcpu": 168,
        "gettimeofday": 169,
        "getpid": 172,
        "gettid": 178,
        "sendto": 206,
        "recvfrom": 207,
        "recvmsg": 212,
        "brk": 214,
        "munmap": 215,
        "mremap": 216,
        "madvise": 233,
        "getrandom": 278,
    },
}
_MMAP, _MPROTECT, _NEWFSTATAT, _TGKILL, _SECCOMP = "mmap", "mprotect", "newfstatat", "tgkill", "seccomp"
_CHECKED = {
    "x86_64": {_MMAP: 9, _MPROTECT: 10, _NEWFSTATAT: 262, _TGKILL: 234, _SECCOMP: 317},
    "aarch64": {_MMAP: 222, _MPROTECT: 226, _NEWFSTATAT: 79, _TGKILL: 131, _SECCOMP: 277},
}
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_...: the same machine's 32-bit calls differ
_X32 = 0x40000000  # x86_64: numbers from here on are another table

# linux/filter.h and linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # the last: fail with errno 1, EPERM
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_PROT_EXEC, _AT_EMPTY_PATH = 4, 0x1000

_Line = tuple[int, int, int, int]


def program(machine: str, pid: int) -> list[_Line]:
    """Return the filter for a process on a ``machine`` (as ``platform.machine`` names it): code, jumps and operand.

    Raises OSError for a machine whose calls are not known here.
    """
    if machine not in _FREE:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known here")
    checked = _CHECKED[machine]
    lines: list[_Line] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, _KILL)]
    lines.append((_LOAD, 0, 0, _NUMBER))
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for number in _FREE[machine].values():
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    lines += _where(checked[_MMAP], 2, (_ANY_BIT, 1, 0, _PROT_EXEC))
    lines += _where(checked[_MPROTECT], 2, (_ANY_BIT, 1, 0, _PROT_EXEC))
    lines += _where(
        checked[_NEWFSTATAT], 3, (_EQUAL, 0, 1, _AT_EMPTY_PATH)
    )  # glibc's fstat; of a name it tells no more
    lines += _where(checked[_TGKILL], 0, (_EQUAL, 0, 1, pid))  # abort() must end it as it says
    return [*lines, (_RETURN, 0, 0, _REFUSE)]


def install(libc: ctypes.CDLL) -> None:
    """Have the kernel filter the calls of this process for good; ``no_new_privs`` must be set.

    Raises OSError where the kernel does not, and on a machine whose calls are not known.
    """
    machine = platform.machine()
    code = b"".join(struct.pack("HBBI", *line) for line in program(machine, os.getpid()))
    lines = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many lines, and where they are
    whole = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(lines)))
    arguments = (ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(_ALL_THREADS), ctypes.byref(whole))
    if libc.syscall(ctypes.c_long(_CHECKED[machine][_SECCOMP]), *arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _where(number: int, argument: int, test: _Line) -> Sequence[_Line]:
    """Allow the call ``number`` where the low word of an ``argument`` passes: ``test`` jumps over one line if not."""
    return [
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        test,
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
