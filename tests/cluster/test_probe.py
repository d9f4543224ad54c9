"""What a node says of itself, asked in this process; several real nodes are in tests/train/checks/test_nodes.py."""

from __future__ import annotations

import socket
import stat
import sys
from pathlib import Path

import pytest

from cluster import probe
from cluster.probe import Probe, code, gpus


def test_versions_are_those_of_this_python() -> None:
    versions = Probe().facts(["torch", "no-such-thing"])["versions"]
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["torch"] and versions["no-such-thing"] == ""


def test_code_is_told_apart_by_a_single_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "PACKAGES", ("only",))
    before = code()
    assert before and code() == before
    (tmp_path / "only" / "__init__.py").write_text("#")
    assert code() not in ("", before)
    monkeypatch.setattr(probe, "PACKAGES", ("no_such_package",))
    assert code() == ""


def test_gpus_are_what_the_driver_s_tool_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 570.86'\necho 'NVIDIA GB10, [N/A], 570.86'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpus() == [("NVIDIA H200", 143771, "570.86"), ("NVIDIA GB10", 0, "570.86")]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert gpus() == []


def test_who_cannot_be_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        failed = Probe().dial({"here": ("127.0.0.1", port), "gone": ("127.0.0.1", 1)})
    assert list(failed) == ["gone"] and "refused" in failed["gone"]


@pytest.mark.medium
def test_a_sum_over_one_node_and_over_one_that_does_not_come() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        meeting = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    assert Probe().all_reduce("gloo", meeting, 0, 1, 20.0) == ""
    assert Probe().all_reduce("gloo", meeting, 0, 2, 0.5)


def test_files_written_and_read_and_those_that_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_APPEARS_S", 0.0)
    place = str(tmp_path / "new" / "a")
    assert Probe().write(place) == ""
    assert Probe().read({"a": place}) == {}
    assert "no such file" in Probe().read({"a": place, "b": f"{place}b"})["b"]
    assert "a" in Probe().write(f"{place}/in-a-file")
    Probe().remove(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    Probe().remove(str(tmp_path / "new"))


def test_a_checkpoint_is_there_or_not(tmp_path: Path, tiny_en_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Probe().has_base(tiny_en_name) == ""
    assert Probe().has_base(str(tmp_path)) == ""
    monkeypatch.setenv("WHISPERFLEET_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert "builtin-tiny.en" in Probe().has_base("builtin:tiny.en")
    assert Probe().has_base("nobody/has-this-model") == "no 'nobody/has-this-model' in the hub's cache"
    assert Probe().has_base(str(tmp_path / "x")) == f"no {tmp_path / 'x'}"
