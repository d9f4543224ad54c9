from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from asr.errors import UserError
from asr.io.cache import cache_root, complete_or_absent, prune, use
from tests.asr.disks import small_disk
from tests.speed import WAIT_S


def test_the_variable_names_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHISPERFLEET_CACHE", "~/elsewhere")
    assert cache_root() == tmp_path / "elsewhere"
    monkeypatch.setenv("WHISPERFLEET_CACHE", "")
    assert cache_root() == tmp_path / ".cache/whisperfleet"
    assert not cache_root().exists(), "asking for the place makes nothing"


def test_a_finished_block_becomes_the_target(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with complete_or_absent(target) as draft:
        assert not target.exists()
        (draft / "file").write_text("whole")
    assert (target / "file").read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_the_umask_says_who_may_read_it(tmp_path: Path, umask: int, mode: int) -> None:
    """It was 0755 always: also where the umask said that nobody else may read."""
    before = os.umask(umask)
    try:
        with complete_or_absent(tmp_path / "a") as draft:
            (draft / "file").write_text("whole")
        use(tmp_path / "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()} == {mode & 0o666}


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), complete_or_absent(tmp_path / "target") as draft:
        (draft / "file").write_text("half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_was_told_to_be_empty(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        with pytest.raises(UserError) as caught, complete_or_absent(disk / "target") as draft:
            (draft / "weights").write_bytes(bytes(2**21))
        assert caught.value.message == f"{disk}/target: no space left, 0.0 of 1 MB are free"
        assert list(disk.iterdir()) == []


def test_a_failure_leaves_an_earlier_result_alone(tmp_path: Path) -> None:
    with complete_or_absent(tmp_path / "target") as draft:
        (draft / "file").write_text("first")
    with pytest.raises(RuntimeError), complete_or_absent(tmp_path / "target"):
        raise RuntimeError
    assert (tmp_path / "target/file").read_text() == "first"


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a file")
    told = pytest.raises(UserError, match="target: a file is where a folder should be")
    with told, complete_or_absent(tmp_path / "target") as draft:
        (draft / "file").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def _race(target: Path, barrier: Any, number: int) -> None:
    with complete_or_absent(target) as draft:
        for name in ("one", "two"):
            (draft / name).write_text(str(number))
        barrier.wait()  # all have finished their work and none has its result in place


@pytest.mark.medium
def test_of_processes_that_race_one_wins_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    racers = [context.Process(target=_race, args=(tmp_path / "target", barrier, i)) for i in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0], "a loser goes on with the winner's result"
    assert (tmp_path / "target/one").read_text() == (tmp_path / "target/two").read_text()
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


def _age(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def test_what_nobody_used_for_long_is_pruned(tmp_path: Path) -> None:
    for name, days in (("old", 31), ("recent", 29), (".draft-of-one-who-died", 31)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(b"x")
        _age(tmp_path / name, days)
    (tmp_path / "file").write_text("not a folder")
    prune(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"recent", "file"}


def _use_and_wait(folder: Path, ready: Any, done: Any) -> None:
    assert use(folder)
    ready.set()
    done.wait(WAIT_S)


@pytest.mark.medium
def test_what_a_process_uses_stays_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    user = context.Process(target=_use_and_wait, args=(folder, ready, done))
    user.start()
    assert ready.wait(WAIT_S)
    _age(folder, 31)
    prune(tmp_path)
    assert folder.is_dir()
    done.set()
    user.join()
    prune(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_use_counts_anew_from_today(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert use(tmp_path / "model")
    _age(tmp_path / "model", 31)
    assert use(tmp_path / "model")
    prune(tmp_path)
    assert (tmp_path / "model").is_dir()
    assert not use(tmp_path / "none"), "what is not there is to be made"
