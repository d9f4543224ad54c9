from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster import ports
from cluster.ports import free_ports


def test_they_can_be_listened_on_all_at_once() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    with ExitStack() as listening:
        for port in found:
            listening.enter_context(socket.create_server(("127.0.0.1", port)))


def test_no_connection_takes_one_before_its_server_listens() -> None:
    """HAProxy found its port taken, a minute after it was chosen: the kernel gives such ports to connections."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(20_000 <= port < low for port in free_ports(100))


def test_one_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_FIRST", port)
        monkeypatch.setattr(ports, "_KERNELS", tmp_path / "range")
        (tmp_path / "range").write_text(f"{port + 2} 65535")
        assert port not in free_ports(1)


def test_one_that_is_taken_over_ipv6_alone_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_FIRST", port)
        monkeypatch.setattr(ports, "_KERNELS", tmp_path / "range")
        (tmp_path / "range").write_text(f"{port + 1} 65535")
        assert port not in free_ports(1, socket.AF_INET6)


@pytest.mark.parametrize("told", ["1024 65535", "", "none"])
def test_a_kernel_that_gives_all_ports_or_does_not_say_is_none_without(
    told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ports, "_KERNELS", tmp_path / "range")
    (tmp_path / "range").write_text(told)
    assert len(set(free_ports(3))) == 3
