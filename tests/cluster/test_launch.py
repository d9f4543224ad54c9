from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import UserError
from cluster.launch import PACKAGES, STORAGE, check_packages, enter_storage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A checkout whose pins nobody has."""
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torch", "ray", "numpy", "rich", "typer"]')
    pinned = "".join(f"{name}==0.0.1\n" for name in ("torch", "ray", "numpy", "rich", "typer"))
    (tmp_path / "constraints.txt").write_text(pinned)
    return tmp_path


def test_other_packages_than_the_pinned_ones_are_refused_or_told(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"torch .*, pinned 0\.0\.1; .*; and 1 more \(submit with --packages pip"):
        check_packages(odd, "pinned")
    with pytest.raises(UserError):
        check_packages(odd, "pip")
    check_packages(odd, "image")
    assert "not the pinned ones: torch" in capsys.readouterr().err


def test_a_folder_for_relative_places_is_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    words = enter_storage(tmp_path, ["train", "mine.yaml", "a=b"], str(tmp_path / "shared" / "speech"))
    assert words == ["train", str(tmp_path / "mine.yaml"), "a=b"]
    assert Path.cwd() == tmp_path / "shared" / "speech"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be the job's folder"):
        enter_storage(tmp_path, [], str(tmp_path / "file"))


def test_an_address_for_relative_places_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("s3://bucket/speech", ""):
        assert enter_storage(tmp_path, ["train", "mine.yaml"], place) == ["train", "mine.yaml"]
    assert Path.cwd() == tmp_path


@pytest.mark.medium
def test_the_process_becomes_the_verb(tmp_path: Path) -> None:
    variables = os.environ | {STORAGE: str(tmp_path), PACKAGES: "image"}
    words = [sys.executable, "-m", "cluster.launch", "--version"]
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("whisperfleet ")


@pytest.mark.medium
def test_a_person_s_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    variables = os.environ | {STORAGE: str(tmp_path / "file"), PACKAGES: "image"}
    words = [sys.executable, "-m", "cluster.launch", "--version"]
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("whisperfleet: ") and done.stderr.count("\n") == 1
