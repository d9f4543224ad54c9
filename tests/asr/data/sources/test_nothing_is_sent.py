"""Whatever a data set's author calls a file, no other host hears of it, and the other rows are read."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import create_server
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.data.sources import SourceConfig, rows
from asr.errors import UserError
from asr.io import storage
from asr.io.roots import REASON
from asr.utterance import Quarantined, Utterance


@pytest.fixture
def evil(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[bytes]]]:
    """A host of the author's, and what it was sent."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVICTIM")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    heard: list[bytes] = []
    with create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=listen, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        listener.shutdown(2)


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder whose address has no query: which host has it, the environment says."""
    address, _, query = s3.partition("?")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{parse_qs(query)['endpoint_override'][0]}")
    storage._arrow_filesystem.cache_clear()
    yield f"{address}/{uuid4().hex}"
    storage._arrow_filesystem.cache_clear()


def parquet(**columns: list[Any]) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written)
    return written.getvalue()


def tar(name: str) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as file:
        for member, data in ((name, b"x"), ("b.wav", b"x"), ("b.txt", b"two")):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return written.getvalue()


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


KINDS: dict[str, Callable[[str, str], bytes]] = {
    "list.csv": lambda bad, good: f"audio,text\n{bad},one\n{good},two\n".encode(),
    "list.tsv": lambda bad, good: f"path\tsentence\n{bad}\tone\n{good}\ttwo\n".encode(),
    "lj/metadata.csv": lambda bad, good: f"{bad}|one|one\n{good}|two|two\n".encode(),
    "train.tsv": lambda bad, good: f"client_id\tpath\tsentence\nx\t{bad}\tone\nx\t{good}\ttwo\n".encode(),
    "list.jsonl": lambda bad, good: lines(
        {"audio_filepath": bad, "text": "one"}, {"audio_filepath": good, "text": "two"}
    ),
    "af/metadata.csv": lambda bad, good: f"file_name,text\n{bad},one\n{good},two\n".encode(),
    "af/metadata.jsonl": lambda bad, good: lines({"file_name": bad, "text": "one"}, {"file_name": good, "text": "two"}),
    "af/metadata.parquet": lambda bad, good: parquet(file_name=[bad, good], text=["one", "two"]),
    "a.parquet": lambda bad, good: parquet(audio=[bad, good], text=["one", "two"]),
    "b.parquet": lambda bad, good: parquet(
        audio=[{"bytes": None, "path": bad}, {"bytes": b"x", "path": good}], text=["one", "two"]
    ),
}
NAMES = (
    "a.wav?endpoint_override={host}&scheme=http",
    "a?endpoint_override={host}&scheme=http",
    "{folder}/a.wav?endpoint_override={host}&scheme=http",
    "s3://other/a.wav?endpoint_override={host}&scheme=http",
    "http://{host}/a.wav",
    "hdfs://{host}/a.wav",
)


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_table_row_sent_our_credentials_to_a_host_of_its_choice(
    bucket: str, evil: tuple[str, list[bytes]], tmp_path: Path, kind: str, name: str
) -> None:
    """Where a table's first names lie was tried before they were judged."""
    host, heard = evil
    folder = storage.parent(f"{bucket}/{kind}")
    storage.write_bytes(f"{bucket}/{kind}", KINDS[kind](name.format(host=host, folder=folder), "b.wav"))
    storage.write_bytes(f"{folder}/clips/b.wav", b"x")
    said: dict[str, Any] = {"header": False, "columns": {"audio": 1, "text": 2}} if kind == "lj/metadata.csv" else {}
    found = list(rows(SourceConfig(source=folder if "/" in kind else f"{bucket}/{kind}", **said), tmp_path))
    assert heard == []
    assert [type(row) for row in found] == [Quarantined, Utterance]
    assert isinstance(found[0], Quarantined)
    assert found[0].reason == REASON


@pytest.mark.medium
def test_an_objects_own_name_sent_our_credentials(bucket: str, evil: tuple[str, list[bytes]], tmp_path: Path) -> None:
    """What a bucket's listing calls a file was opened as an address with a query."""
    host, heard = evil
    key = f"x?endpoint_override={host}&scheme=http&region=x"
    filesystem, path = storage.resolve(bucket)
    names = [f"{path}/{key}.wav", f"{path}/{key}.txt"]
    try:
        for name in names:
            with filesystem.open_output_stream(name) as file:
                file.write(b"x")
        with pytest.raises(UserError, match="rename it"):
            list(rows(SourceConfig(source=bucket, format="audiofolder"), tmp_path))
    finally:
        for name in names:
            filesystem.delete_file(name)
    assert heard == []


def test_the_names_in_a_tar_are_no_addresses(bucket: str, evil: tuple[str, list[bytes]], tmp_path: Path) -> None:
    host, heard = evil
    storage.write_bytes(f"{bucket}/a.tar", tar(f"a.wav?endpoint_override={host}&scheme=http"))
    found = list(rows(SourceConfig(source=f"{bucket}/a.tar"), tmp_path))
    assert any(isinstance(row, Utterance) and row.text == "two" for row in found)
    assert heard == []
