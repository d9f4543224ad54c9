"""Storage of which fsspec knows how it is reached, and what a person is told where it is not."""

from __future__ import annotations

import ftplib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from asr.errors import UserError
from asr.io import storage
from asr.io.fsspec_storage import client_error, fsspec_filesystem

ROOT = Path(__file__).resolve().parents[3]


class Attic(MemoryFileSystem):
    """A server as those of ``ftp://`` are: it wants a host, and a password from fsspec's settings."""

    protocol = "attic"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own way
    pseudo_dirs = [""]  # noqa: RUF012

    def __init__(self, host: str, password: str, **options: Any) -> None:
        assert (host, password) == ("upstairs", "secret")
        super().__init__(**options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("attic://").removeprefix("upstairs").strip("/")

    @staticmethod
    def _get_kwargs_from_urls(address: str) -> dict[str, str]:
        return {"host": address.removeprefix("attic://").partition("/")[0]}

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if path.endswith("forbidden"):
            raise ftplib.error_perm("550 not for you")
        if "w" in mode:
            assert self.isdir(path.rpartition("/")[0])
        return super().open(path, mode, **options)


@pytest.fixture
def attic(monkeypatch: pytest.MonkeyPatch) -> str:
    fsspec.register_implementation("attic", Attic, clobber=True)
    monkeypatch.setitem(fsspec.config.conf, "attic", {"password": "secret"})
    return "attic://upstairs/set"


def test_an_address_says_host_and_path_and_settings_say_the_password(attic: str) -> None:
    storage.write_text(f"{attic}/a b/ü.txt", "Grüße")
    assert storage.read_text(f"{attic}/a b/ü.txt") == "Grüße"
    assert [(entry.name, entry.bytes) for entry in storage.list_files(attic)] == [("a b/ü.txt", 7)]
    assert storage.kind(attic) == "folder"
    assert not storage.exists(f"{attic}/none")


def test_what_a_client_says_is_one_line(attic: str) -> None:
    with pytest.raises(UserError, match=r"^attic://upstairs/set/forbidden: cannot be written: 550 not for you$"):
        storage.write_text(f"{attic}/forbidden", "mine")
    assert not client_error(TypeError("a bug"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://127.0.0.1:1/a", r"'ftp://127.0.0.1:1' cannot be reached: .*refused \(look at host, port and user\)"),
        ("nosuch://host/a", r"'nosuch://host' cannot be read: no storage is called so \(use a path, or one of .*ftp"),
        ("http://host/a", r"'http://host' cannot be read: http:// is no storage \(copy it to a folder or a bucket\)"),
        ("github://org:repo@/a", r"an address holds no password"),
        ("az://container/a", r"'az://container' cannot be read: Install adlfs .*\(install that on every node\)"),
        ("simplecache::ftp://host/a", r"'simplecache::ftp://host/a' is no address that can be read"),
        ("dbfs://a", r"'dbfs://a' cannot be read: .*'token' \(set what it asks for as FSSPEC_DBFS_"),
    ],
)
def test_what_cannot_be_opened_is_one_line(address: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        storage.resolve(address)
    assert "\n" not in str(caught.value)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UserError, match="set FSSPEC_FTP_PASSWORD on every node") as caught:
        fsspec_filesystem("ftp", "team:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_hub_that_is_not_reached_was_a_traceback() -> None:
    """Its client changed from httpx to httpx2, whose errors were nobody's."""
    done = subprocess.run(
        [sys.executable, "-m", "whisperfleet", "data", "inspect", "hf://datasets/a/b/x.jsonl"],
        cwd=ROOT,
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "hf://datasets/a/b/x.jsonl: cannot be reached" in done.stderr
