from __future__ import annotations

import errno

import pytest

from asr.io.seccomp import program

ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050001
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def run(machine: str, number: int, *arguments: int, arch: int = 0, pid: int = 77) -> int:
    """What the kernel would do: linux/filter.h, as far as the program uses it."""
    words = {
        0: number,
        4: arch or ARCH[machine],
        **{16 + 8 * at: value & 0xFFFFFFFF for at, value in enumerate(arguments)},
    }
    lines, at, held = program(machine, pid), 0, 0
    while True:
        code, yes, no, operand = lines[at]
        if code == 0x06:
            return operand
        if code == 0x20:
            held = words.get(operand, 0)
            at += 1
            continue
        met = {0x15: held == operand, 0x35: held >= operand, 0x45: bool(held & operand)}[code]
        at += 1 + (yes if met else no)


OPENAT, EXECVE, SOCKET, CLONE, PTRACE = [257, 56], [59, 221], [41, 198], [56, 220], [101, 117]


@pytest.mark.parametrize(("machine", "read"), [("x86_64", 0), ("aarch64", 63)])
def test_what_is_not_on_the_list_fails(machine: str, read: int) -> None:
    assert run(machine, read) == ALLOW
    for numbers in (OPENAT, EXECVE, SOCKET, CLONE, PTRACE):
        assert run(machine, numbers[list(ARCH).index(machine)]) == REFUSE
    assert run(machine, 435) == REFUSE and run(machine, 425) == REFUSE  # clone3, io_uring_setup
    assert run(machine, 9999) == REFUSE  # what comes later


@pytest.mark.parametrize(("machine", "mmap", "mprotect"), [("x86_64", 9, 10), ("aarch64", 222, 226)])
def test_memory_never_becomes_code(machine: str, mmap: int, mprotect: int) -> None:
    for number in (mmap, mprotect):
        assert run(machine, number, 0, 4096, 3) == ALLOW
        for protection in (4, 5, 7):
            assert run(machine, number, 0, 4096, protection) == REFUSE


@pytest.mark.parametrize(("machine", "newfstatat", "tgkill"), [("x86_64", 262, 234), ("aarch64", 79, 131)])
def test_only_its_own_descriptors_and_its_own_end(machine: str, newfstatat: int, tgkill: int) -> None:
    assert run(machine, newfstatat, 3, 0, 0, 0x1000) == ALLOW
    assert run(machine, newfstatat, 3, 0, 0, 0) == REFUSE
    assert run(machine, tgkill, 77, 77, 6) == ALLOW
    assert run(machine, tgkill, 1, 1, 9) == REFUSE


def test_the_calls_of_another_machine_end_it() -> None:
    for machine in ARCH:
        assert run(machine, 0, arch=0x40000003) == KILL  # i386's table
    assert run("x86_64", 0x40000000) == KILL  # x32's


def test_a_machine_that_is_not_known_is_told() -> None:
    with pytest.raises(OSError) as raised:
        program("riscv64", 1)
    assert raised.value.errno == errno.ENOSYS
