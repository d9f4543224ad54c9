"""A streamed data set's rows, written by a stranger: the attacks, on the real ``datasets`` and the real fsspec."""

from __future__ import annotations

import gzip
import os
import socket
import zipfile
from pathlib import Path

import datasets
import pytest

from asr.data.sources import repository
from asr.errors import DataError
from asr.io.address import open_address
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import audio, read, write_audio

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture
def own(tmp_path: Path, clips: list[Utterance]) -> Path:
    """A data set's folder with a clip of its own, and beside it what is none of its business."""
    folder = tmp_path / "owner" / "name"
    write_audio(folder / "clips", clips[:1], "wav")
    (folder / "clips").joinpath(next(iter(os.listdir(folder / "clips")))).rename(folder / "clips/a.wav")
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")  # who opens it waits for ever
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(folder / "clips/a.wav", "a.wav")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.write(folder / "clips/a.wav", "a.wav")
    return folder


def rows_of(folder: Path, paths: list[str | None], streaming: bool) -> list[Utterance | Quarantined]:
    """What is read of a data set whose Parquet file has these paths in its audio column."""
    cells = [{"bytes": None, "path": path} for path in paths]
    data = datasets.Dataset.from_dict({"audio": cells, "text": [f"row {n}" for n in range(len(paths))]})
    (folder / "data").mkdir(exist_ok=True)
    data.to_parquet(folder / "data/train-00000-of-00001.parquet")
    return read(f"hf:{folder}", split="train", streaming=streaming)


def attacks(folder: Path, port: int) -> list[str]:
    outside = folder.parent.parent
    local = [
        "/etc/passwd",
        f"{outside}/secret",
        f"{folder}/../../secret",
        f"{folder}-other/a.wav",
        "/proc/self/environ",
    ]
    spelled = [
        "file:///etc/passwd",
        "file:/etc/passwd",
        "local:/etc/passwd",
        "local:///etc/passwd",
        "~/.bashrc",
        "a\0b",
    ]
    linked = [f"{folder}/link", f"{folder}/up/secret", f"{folder}/fifo", str(folder), "clips/a.wav", "."]
    hosts = [
        *(f"{scheme}://127.0.0.1:{port}/a.wav" for scheme in ("http", "https", "ftp", "sftp", "webhdfs", "dir")),
        f"s3://bucket/a.wav?endpoint_override=127.0.0.1:{port}&scheme=http",
        f"gs://bucket/a.wav?endpoint_override=127.0.0.1:{port}&scheme=http",
        "hf://datasets/other/private/a.wav",
        "github://owner:name@/a.wav",
        "memory://a.wav",
    ]
    chained = [
        "zip://x::/etc/passwd",
        f"zip://a.wav::{outside}/other.zip",
        f"zip://a.wav::http://127.0.0.1:{port}/a.zip",
        f"simplecache::http://127.0.0.1:{port}/a.wav",
        f"http://127.0.0.1:{port}/a.wav::{folder}/a.zip",
        f"zip://a.wav::zip://a.zip::{folder}/a.zip",
        f"tar://a.wav::{folder}/a.zip",
        f"file:///etc/passwd::{folder}/a.zip",
        f"dask::http://127.0.0.1:{port}/a.wav::{folder}/a.zip",
    ]
    return [*local, *spelled, *linked, *hosts, *chained]


@pytest.mark.medium
@pytest.mark.parametrize("streaming", [True, False])
def test_rows_read_any_file_and_asked_any_host(
    own: Path, clips: list[Utterance], streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``/etc/passwd`` was read and a local listener got a HEAD. So were ``~`` and ``file:`` later."""
    monkeypatch.chdir(own)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        hostile = attacks(own, listener.getsockname()[1])
        if not streaming:  # there a folder's own links are followed, as in any other source
            hostile = [path for path in hostile if path not in (f"{own}/link", f"{own}/up/secret")]
        found = rows_of(own, [f"{own}/clips/a.wav", *hostile], streaming)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert isinstance(found[0], Utterance)
    assert len(found) == len(hostile) + 1
    if streaming:
        assert found[0].audio == audio(clips[0], "wav")
        reasons = {path: getattr(row, "reason", None) for path, row in zip(hostile, found[1:], strict=True)}
        assert {path: reason for path, reason in reasons.items() if reason != repository.REASON} == {
            "a\0b": "missing_file"
        }
    for row in found[1:]:
        if isinstance(row, Utterance):
            with pytest.raises(DataError):
                open_address(str(row.audio))


def test_an_archive_of_its_own_is_read(own: Path, clips: list[Utterance]) -> None:
    (own / "b.wav.gz").write_bytes(gzip.compress(audio(clips[0], "wav")))
    for path in (f"zip://a.wav::{own}/a.zip", f"gzip://b.wav::{own}/b.wav.gz"):
        assert repository.read(path, str(own)) == audio(clips[0], "wav")


def test_a_snapshot_in_the_cache_of_hugging_face_is_links_to_its_blobs(own: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--a--b/snapshots/0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "datasets--a--b/blobs").mkdir()
    (tmp_path / "datasets--a--b/blobs/ff").write_bytes(b"sound")
    (snapshot / "a.wav").symlink_to("../../blobs/ff")
    (snapshot / "b.wav").symlink_to(tmp_path / "secret")
    assert repository.read(f"{snapshot}/a.wav", str(snapshot)) == b"sound"
    with pytest.raises(DataError, match=repository.REASON):
        repository.read(f"{snapshot}/b.wav", str(snapshot))


@pytest.mark.parametrize(
    "path",
    [
        "hf://datasets/owner/name@main/a.wav",
        "hf://datasets/owner/name/a.wav",
        "zip://a.wav::hf://datasets/owner/name@main/a.zip",
    ],
)
def test_files_on_the_hub_are_those_of_the_data_set(path: str) -> None:
    """Asked for, and not there: nothing else is offline."""
    with pytest.raises(DataError, match="missing_file"):
        repository.read(path, "owner/name")
    for other in ("owner/nam", "other/name", "owner", "name"):
        with pytest.raises(DataError, match=repository.REASON):
            repository.read(path, other)
    with pytest.raises(DataError, match=repository.REASON):
        repository.read(path.replace("a.", "../../other/private/a."), "owner/name")


@pytest.mark.medium
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_above_the_cap_took_all_memory(own: Path, packed: bool) -> None:
    path = own / "large"
    if packed:  # 4 MB of zeros' worth of a gigabyte
        zeros = gzip.compress(bytes(1 << 24))
        path.write_bytes(zeros * 64)
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    with pytest.raises(DataError, match="too_large"):
        repository.read(f"gzip://x::{path}" if packed else str(path), str(own))


def test_what_was_fetched_of_other_data_sets_is_not_its_own() -> None:
    """Only this data set's part of the hub's cache, and what was unpacked."""
    snapshots, unpacked = repository.roots("owner/name")
    assert snapshots.endswith("/datasets--owner--name")
    assert unpacked.endswith("/downloads")
