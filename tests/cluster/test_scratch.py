from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from asr.errors import UserError
from cluster import scratch
from tests.asr.disks import fill, read_only, small_disk

ROOT = Path(__file__).resolve().parents[2]
THEN = "TMPDIR may name another folder"


@pytest.mark.usefixtures("ray_cluster")
def test_the_folder_is_the_one_that_ray_takes() -> None:
    assert ray._private.worker._global_node is not None
    assert Path(ray._private.worker._global_node.get_session_dir_path()).parent == scratch.folder() / "ray"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"TMPDIR": "/a"}, "/a" if sys.platform.startswith("linux") else "/tmp"),
        ({"TMPDIR": "/a", "RAY_TMPDIR": "/b"}, "/b"),
        ({}, "/tmp"),
    ],
)
def test_it_is_looked_for_as_ray_does(given: dict[str, str], taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert scratch.folder() == Path(taken)
    assert str(scratch.folder() / "ray") == ray._common.utils.get_default_ray_temp_dir()


def test_where_there_is_room_nothing_is_left_behind(tmp_path: Path) -> None:
    with scratch.room(tmp_path / "not" / "there"):  # Ray makes it
        assert list(tmp_path.iterdir()) == []


def test_a_full_or_read_only_folder_is_named_with_what_is_missing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20) as disk:
        (disk / "ray").mkdir()  # of an earlier session
        fill(disk, leave=10 * 2**20)
        with pytest.raises(UserError, match=r"ray: no space left for the 16 MB of Ray's own files, 10\.\d of 21 MB"):
            scratch.require_room(disk)
        read_only(disk)
        with pytest.raises(UserError, match="ray: a read-only file system") as caught:
            scratch.require_room(disk)
    assert caught.value.hint is not None and caught.value.hint.endswith(THEN)


def test_what_ray_cannot_use_at_all_is_told_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: Ray's own files need a folder"):
        scratch.require_room(tmp_path / "file")
    with pytest.raises(UserError, match="relative: Ray's own files need an absolute path"):
        scratch.require_room(Path("relative"))


def test_a_disk_that_fills_while_ray_starts_is_the_reason_why_it_does_not(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20) as disk:
        with pytest.raises(UserError, match="no space left for the 16 MB"), scratch.room(disk):
            fill(disk)
            raise RuntimeError("Timed out waiting for file")
        (disk / "ballast").unlink()
        with pytest.raises(RuntimeError, match="Timed out"), scratch.room(disk):
            raise RuntimeError("Timed out waiting for file")


def _command(folder: Path, tmpdir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whisperfleet", *words],
        env=os.environ | {"TMPDIR": str(tmpdir), "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_command_on_a_full_tmpdir_ends_in_one_line(tiny_en_name: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with small_disk(tmp_path / "disk", 1) as disk:
        fill(disk)
        done = _command(tmp_path, disk, "transcribe", "a.wav", "--model", tiny_en_name, "--out", "out")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line == (
        f"whisperfleet: {disk}: no space left for the 16 MB of Ray's own files, 0.0 of 1 MB are free "
        f"(free some space: {THEN})"
    )


def test_a_path_too_long_for_sockets_ends_in_one_line(tiny_en_name: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    long = tmp_path / ("x" * 90)
    done = _command(tmp_path, long, "transcribe", "a.wav", "--model", tiny_en_name, "--out", "out")
    assert done.returncode == 2
    assert done.stderr == f"whisperfleet: {long}: too long a path for Ray's sockets ({THEN})\n"
