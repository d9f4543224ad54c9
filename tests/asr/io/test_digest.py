from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.io.digest import folder_digests, sha256, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes(b"b")
    (tmp_path / "sub/a.txt").write_bytes(b"a")
    return tmp_path


@given(content=st.binary(max_size=5000))
def test_it_is_the_digest_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "digest"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_every_file_by_its_relative_name(folder: Path) -> None:
    a, b = (hashlib.sha256(letter).hexdigest() for letter in (b"a", b"b"))
    assert folder_digests(folder) == {"b.txt": b, "sub/a.txt": a}
    assert list(folder_digests(folder)) == ["b.txt", "sub/a.txt"]
    assert folder_digests(folder, frozenset({"b.txt"})) == {"sub/a.txt": a}


def test_untouched_files_verify(folder: Path) -> None:
    verify(folder, folder_digests(folder), "never")


def test_a_changed_or_missing_file_is_named_with_its_remedy(folder: Path) -> None:
    digests = folder_digests(folder)
    (folder / "sub/a.txt").write_bytes(b"A")
    with pytest.raises(UserError, match=r"sub/a\.txt: digest 559aead08264\.\.\. is not the recorded ca978112ca1b"):
        verify(folder, digests, "fetch it again")
    (folder / "sub/a.txt").unlink()
    with pytest.raises(UserError, match=r"sub/a\.txt: missing.*\(fetch it again\)"):
        verify(folder, digests, "fetch it again")
