from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from cluster import checkout as checkout_module
from cluster.checkout import Checkout

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = st.lists(st.sampled_from(["train", "data", "asr", "deep er", "ü"]), max_size=3)
STAYS = (".venv", ".git", "__pycache__", "x.egg-info", ".mypy_cache", "node_modules")
STAYING_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "a.wav",
    "b.flac",
    "rows.parquet",
    "x.tar.gz",
    ".env",
    "a.pem",
)


def written(root: Path, *names: str) -> Checkout:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return Checkout(root)


def test_this_checkout_travels_with_all_that_git_tracks_and_is_small(tmp_path: Path) -> None:
    checkout = Checkout.here()
    names = checkout.files()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    present = {name for name in tracked.stdout.split("\0") if name and (ROOT / name).is_file()}
    assert present <= set(names)
    assert {"constraints.txt", "pyproject.toml", "train/data/corpus.py", "configs/demo.yaml"} <= set(names)
    assert checkout.pack(tmp_path / "a.zip") == len(names)
    assert (tmp_path / "a.zip").stat().st_size < 5e6
    assert checkout.commit() or not tracked.stdout


@given(FOLDERS, st.sampled_from(STAYS), FOLDERS, st.sampled_from(STAYING_FILES))
def test_weights_data_secrets_and_environments_stay_wherever_they_are(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], folder: str, after: list[str], file: str
) -> None:
    root = tmp_path_factory.mktemp("checkout")
    inside = "/".join(["code", *before, folder, *after, "code.py"])
    beside = "/".join(["code", *before, file])
    travels = "/".join(["code", *before, "code.py"])
    assert written(root, inside, beside, travels).files() == [travels]


def test_only_the_top_folders_called_data_and_runs_stay(tmp_path: Path) -> None:
    names = ["data/a.jsonl", "runs/x/run.json", "train/data/corpus.py", "train/run/folder.py", "tests/runs/a.py"]
    assert written(tmp_path, *names).files() == ["tests/runs/a.py", "train/data/corpus.py", "train/run/folder.py"]


def test_what_git_and_ray_ignore_stays_too(tmp_path: Path) -> None:
    checkout = written(tmp_path, "a.py", "notes.txt", "deep/b.py", "deep/c.log", "deep/keep.log", "huge/x.json")
    (tmp_path / ".gitignore").write_text("notes.txt\n")
    (tmp_path / ".rayignore").write_text("/huge/\n")
    (tmp_path / "deep" / ".gitignore").write_text("*.log\n!keep.log\n")
    assert [name for name in checkout.files() if "ignore" not in name] == ["a.py", "deep/b.py", "deep/keep.log"]


def test_the_same_files_give_the_same_archive_and_others_come_along(tmp_path: Path) -> None:
    checkout = written(tmp_path / "checkout", "b.py", "a.py")
    (tmp_path / "mine.yaml").write_text("base: x")
    archives = [tmp_path / "1.zip", tmp_path / "2.zip"]
    for archive in archives:
        checkout.pack(archive, {"brought/mine.yaml": tmp_path / "mine.yaml"})
        (tmp_path / "checkout" / "a.py").touch()
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert zipfile.ZipFile(archives[0]).namelist() == ["a.py", "b.py", "brought/mine.yaml"]


def test_too_much_is_refused_with_the_biggest_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = written(tmp_path, "a.py", "notes/corpus.json")
    (tmp_path / "notes" / "corpus.json").write_bytes(bytes(2_000_000))
    monkeypatch.setattr(checkout_module, "MAX_BYTES", 1_000_000)
    with pytest.raises(UserError, match=r"2 MB would travel .* over 1; the biggest: notes/corpus.json \(2 MB\), a.py"):
        checkout.pack(tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_link_is_followed_to_a_file_only(tmp_path: Path) -> None:
    checkout = written(tmp_path / "checkout", "a.py")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.py").write_text("")
    (tmp_path / "checkout" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "checkout" / "b.py").symlink_to(tmp_path / "elsewhere" / "x.py")
    (tmp_path / "checkout" / "gone.py").symlink_to(tmp_path / "nowhere")
    assert checkout.files() == ["a.py", "b.py"]


def test_what_is_no_checkout_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout_module, "__file__", str(tmp_path / "site-packages" / "cluster" / "checkout.py"))
    with pytest.raises(UserError, match="not a checkout"):
        Checkout.here()
    assert Checkout(tmp_path).commit() == ""
