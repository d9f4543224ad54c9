from __future__ import annotations

from pathlib import Path

import pytest

from asr.io.folders import local_sizes, require_writable
from asr.io.storage import list_files, list_folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    (made / "a.wav").write_bytes(b"four")
    (made / "sub" / "b.wav").write_bytes(b"")
    return made


def names(folder: Path) -> list[str]:
    return [entry.name for entry in list_files(folder)]


def test_files_and_folders_with_their_sizes(folder: Path) -> None:
    assert sorted(local_sizes(str(folder), True)) == [("a.wav", 4), ("sub", -1), ("sub/b.wav", 0)]
    assert sorted(local_sizes(str(folder), False)) == [("a.wav", 4), ("sub", -1)]


def test_a_link_to_nowhere_vanished(folder: Path) -> None:
    (folder / "gone.wav").symlink_to("/nowhere/gone.wav")
    assert names(folder) == ["a.wav", "gone.wav", "sub/b.wav"]


@pytest.mark.parametrize(
    ("link", "target"), [("self", "."), ("sub/up", ".."), ("sub/root", "/"), ("sub/deep", "../sub")]
)
def test_a_link_to_what_it_lies_in_made_many_files_of_one(folder: Path, link: str, target: str) -> None:
    (folder / link).symlink_to(target)
    assert names(folder) == ["a.wav", "sub/b.wav"]
    assert list_folders(folder) == ["sub"]


def test_other_links_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "c.wav").write_bytes(b"c")
    (tmp_path / "other" / "back").symlink_to(folder)
    (folder / "more").symlink_to(tmp_path / "other")
    (folder / "again.wav").symlink_to(folder / "a.wav")
    assert names(folder) == ["a.wav", "again.wav", "more/c.wav", "sub/b.wav"]


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        require_writable(tmp_path / "file" / "below")
