from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import UserError
from serve.batch.lock import NAME, alone

HOLD = "import sys; from serve.batch.lock import alone\nwith alone(sys.argv[1]): print('held', flush=True); input()"


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that has the folder, until it is told to go or dies."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_wrote_into_the_folder_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path / "out") as process:
        with pytest.raises(UserError, match="another transcribe writes into this folder"), alone(f"{tmp_path}/out"):
            pass
        process.communicate("\n", timeout=60)
    with alone(f"{tmp_path}/out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_who_was_killed_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert (tmp_path / NAME).exists()
    with alone(str(tmp_path)):
        pass


def test_a_file_that_was_unlinked_meanwhile_is_no_lock(tmp_path: Path) -> None:
    """Between its open() and its flock() another run ended: it would hold what nobody else can see."""
    real, opened = os.open, list[int]()

    def slow(path: str, *more: int) -> int:
        file = real(path, *more)
        if path.endswith(NAME) and not opened:
            os.unlink(path)
        opened.append(file)
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", slow)
        with alone(str(tmp_path)):
            assert len(opened) == 2
            assert os.path.samestat(os.stat(tmp_path / NAME), os.fstat(opened[-1]))


def test_a_link_in_place_of_the_lock_makes_no_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"), alone(f"{tmp_path}/out"):
        pass
    assert not (tmp_path / "elsewhere").exists()
