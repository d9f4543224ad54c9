from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from asr.errors import DataError, UserError
from asr.io import storage, transfer
from asr.io.address import open_address
from asr.io.digest import sha256


@pytest.mark.medium
def test_write_read_and_list(root: str) -> None:
    assert not storage.exists(root)
    storage.write_text(storage.join(root, "a b/ü.txt"), "Grüße\r\n")
    storage.write_bytes(storage.join(root, "c.bin"), bytes(range(10)))
    assert storage.read_text(storage.join(root, "a b/ü.txt")) == "Grüße\r\n"
    assert storage.kind(root) == "folder"
    assert storage.kind(storage.join(root, "c.bin")) == "file"
    assert [(e.name, e.bytes) for e in storage.list_files(root)] == [("a b/ü.txt", 9), ("c.bin", 10)]
    assert [e.name for e in storage.list_files(root, recursive=False)] == ["c.bin"]
    assert storage.list_folders(root) == ["a b"]
    assert [storage.read_bytes(e.uri)[:2] for e in storage.list_files(root)] == [b"Gr", b"\0\1"]
    with storage.open_input(storage.join(root, "c.bin")) as file:
        assert bytes(file.read_at(3, 4)) == b"\4\5\6"
    with storage.open_text(storage.join(root, "a b/ü.txt")) as text:
        assert list(text) == ["Grüße\r\n"]
    storage.write_text(storage.join(root, "c.bin"), "new")
    assert storage.read_text(storage.join(root, "c.bin")) == "new"


def test_what_is_not_there(root: str, tmp_path: Path) -> None:
    for attempt in (storage.read_text, storage.list_files, lambda place: transfer.download(place, tmp_path / "x")):
        with pytest.raises(UserError, match=r"no such file or folder|no files are there"):
            attempt(storage.join(root, "none"))
    with pytest.raises(FileNotFoundError):
        storage.open_input(storage.join(root, "none"))


def test_a_failed_local_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), storage.whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_join_parent_and_name() -> None:
    query = "?endpoint_override=127.0.0.1:9&scheme=http"
    assert storage.join(f"s3://b/x{query}", "y", "z.txt") == f"s3://b/x/y/z.txt{query}"
    assert storage.join("s3://b/x/", "y") == "s3://b/x/y"
    assert storage.join("/a", "b", "c") == "/a/b/c"
    assert storage.join("file:///a%20b", "c") == "/a b/c"
    for absolute in ("/x.wav", "s3://other/x.wav", "file:///x.wav"):
        assert storage.join("s3://b/x", absolute) == storage.join("/a", absolute) == absolute
    assert storage.parent(f"s3://b/x/y.tsv{query}") == f"s3://b/x{query}"
    assert storage.parent("/a/b.txt") == "/a"
    assert storage.name_of(f"s3://b/x/y.tsv{query}") == "y.tsv"
    assert storage.name_of("/a/what?.tsv") == "what?.tsv"
    assert storage.local_path("file:///a%20b") == "/a b"


def test_endpoint_in_the_environment(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_text(storage.join(s3, "endpoint/a.txt"), "there")
    bucket, _, query = s3.partition("?")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{parse_qs(query)['endpoint_override'][0]}")
    storage._arrow_filesystem.cache_clear()  # a process keeps the endpoint that it met first
    try:
        assert storage.read_text(f"{bucket}/endpoint/a.txt") == "there"
        assert [entry.uri for entry in storage.list_files(bucket) if entry.name == "endpoint/a.txt"]
    finally:
        storage._arrow_filesystem.cache_clear()


@pytest.mark.parametrize("address", ["http://host/a.wav", "nosuch://host/a", "s3://bucket/x?no_such_option=1"])
def test_addresses_that_nothing_opens(address: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read|can be read"):
        storage.read_text(address)


def test_import_is_cheap() -> None:
    code = "import sys, asr.io.storage, asr.io.address; print({'pyarrow', 'fsspec', 'numpy', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_says_who_may_read_what_is_written(tmp_path: Path, umask: int, mode: int) -> None:
    """It was 0644 whatever the umask: transcripts of a hospital were for everybody on the machine."""
    before = os.umask(umask)
    try:
        storage.write_text(tmp_path / "a.txt", "said")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("fields", ["", "#offset=0&size=9", "#row_group=0&row=0&column=a", "#batch=0&row=0&column=a"])
def test_a_pipe_among_the_files_hung_for_ever(tmp_path: Path, fields: str) -> None:
    """Not even SIGTERM ended it: a folder's b.txt, a manifest's x.tar."""
    pipe = tmp_path / "x.tar"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="no regular file"):
        storage.read_bytes(pipe)
    with pytest.raises(UserError, match="no regular file"), storage.open_text(pipe):
        pass
    with pytest.raises(OSError, match="no regular file"):
        storage.open_input(pipe)
    with pytest.raises(OSError, match="no regular file"):
        sha256(pipe)
    with pytest.raises(DataError):
        open_address(f"{pipe}{fields}")
