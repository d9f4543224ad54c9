"""Addresses that the author of some data writes, and what they may not do."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from asr.data.sources.config import SourceConfig
from asr.data.sources.reader import rows
from asr.errors import DataError
from asr.io.roots import REASON, Roots
from asr.utterance import Quarantined

BUCKET = "s3://bucket/set"
OWN = "?endpoint_override=127.0.0.1:9000&scheme=http"


@pytest.mark.parametrize(
    ("folder", "name", "address"),
    [
        ("/d/set", "a.wav", "/d/set/a.wav"),
        ("/d/set", "x/../a.wav", "/d/set/a.wav"),
        ("/d/set", "/d/set/x/a.wav", "/d/set/x/a.wav"),
        ("/d/set", "file:///d/set/a.wav", "file:///d/set/a.wav"),
        ("/d/set", "/more/a.wav", "/more/a.wav"),
        ("/d/set", "a.tar#offset=512&size=9", "/d/set/a.tar#offset=512&size=9"),
        ("/d/set", "s3://other/clips/a.wav", f"s3://other/clips/a.wav{OWN}"),
        (BUCKET, "a.wav", "s3://bucket/set/a.wav"),
        ("ftp://host/set", "a.wav", "ftp://host/set/a.wav"),
        (f"{BUCKET}{OWN}", "x/a.wav", f"s3://bucket/set/x/a.wav{OWN}"),
        (f"{BUCKET}{OWN}", "s3://bucket/set/a.wav", f"s3://bucket/set/a.wav{OWN}"),
        (f"{BUCKET}{OWN}", f"s3://bucket/set/a.wav{OWN}", f"s3://bucket/set/a.wav{OWN}"),
        (f"{BUCKET}{OWN}", "S3://bucket/set/a.tar#offset=512&size=9", f"S3://bucket/set/a.tar{OWN}#offset=512&size=9"),
    ],
)
def test_what_lies_in_a_root_is_read_as_a_person_configured_it(folder: str, name: str, address: str) -> None:
    assert Roots(folder, ("/more", f"s3://other/clips{OWN}")).address(name) == address


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/d/set", "/etc/passwd"),
        ("/d/set", "../a.wav"),
        ("/d/set", "/d/settings/a.wav"),
        ("/d/set", "file:///d/set/../../etc/passwd"),
        ("/d/set", "file:///d/set/%2e%2e/%2e%2e/etc/passwd"),
        ("/d/set", "//etc/passwd"),
        ("/d/set", f"{BUCKET}/a.wav"),
        ("/d/set", "gs://b/a.wav?endpoint_override=evil.example&scheme=http"),
        (BUCKET, f"{BUCKET}/a.wav{OWN}"),
        (BUCKET, f"{BUCKET}/a.wav?endpoint_override=evil.example#offset=0&size=9"),
        (BUCKET, "a.wav?endpoint_override=evil.example"),
        (f"{BUCKET}{OWN}", f"{BUCKET}/a.wav?scheme=https"),
        (BUCKET, "../other/a.wav"),
        (BUCKET, "s3://bucket/set/../a.wav"),
        (BUCKET, "s3://bucket/settings/a.wav"),
        (BUCKET, "s3://other/set/a.wav"),
        (BUCKET, "s3://key:secret@bucket/set/a.wav"),
        (BUCKET, "gs://bucket/set/a.wav"),
        (BUCKET, "/etc/passwd"),
        (BUCKET, "ftp://bucket/set/a.wav"),
        ("ftp://host/set", "ftp://host/set/a.wav"),
        ("ftp://host/set", "sftp://host/set/a.wav"),
        ("ftp://host/set", "../a.wav"),
        (BUCKET, "github://org:repo@/a.wav"),
        (BUCKET, "dir://x::s3://bucket/set/a.wav"),
    ],
)
def test_what_lies_outside_is_refused(folder: str, name: str) -> None:
    with pytest.raises(DataError) as caught:
        Roots(folder, ("/more",)).address(name)
    assert caught.value.reason == REASON
    assert name in caught.value.detail


@pytest.mark.medium
@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_row_sends_no_credentials_to_a_host_of_its_choice(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Authorization header of a service account, or the key id and signature, reached whoever wrote the row."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1.0)
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        address = f"{scheme}://b/a.wav?endpoint_override={host}&scheme=http"
        for name, line in (
            ("m.jsonl", json.dumps({"audio_filepath": address, "text": "uno"})),
            ("t.csv", f"path,sentence\n{address},uno"),
        ):
            (tmp_path / name).write_text(f"{line}\n")
            (row,) = rows(SourceConfig(source=str(tmp_path / name)), tmp_path)
            assert isinstance(row, Quarantined)
            assert row.reason == REASON
        with pytest.raises(TimeoutError):
            listener.accept()
