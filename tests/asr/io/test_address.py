from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asr.errors import DataError
from asr.io import address, storage
from asr.io.address import arrow_row, open_address, parquet_row, plain, raw_container, tar_member


def contents(place: str) -> bytes:
    file, size = open_address(place)
    with file:
        data = file.read()
    assert len(data) == size
    return data


def reason(place: str) -> str:
    with pytest.raises(DataError) as caught:
        contents(place)
    assert place.partition("#")[0] in caught.value.detail
    return caught.value.reason


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else storage.join(request.getfixturevalue("s3"), tmp_path.name)


@pytest.mark.slow
def test_files_and_ranges(folder: str) -> None:
    data = bytes(range(256)) * 10_000  # several times what is read ahead
    storage.write_bytes(storage.join(folder, "a#1.bin"), data)
    place = storage.join(folder, "a#1.bin")
    assert contents(place) == data
    assert contents(tar_member(place, 1000, 2_000_000)) == data[1000:2_001_000]
    file, _ = open_address(tar_member(place, 1000, 5000))
    with file:
        assert file.seek(-10, 2) == 4990
        assert file.read() == data[5990:6000]
        assert file.seek(3) == 3
        assert file.read(4) == data[1003:1007]
        assert file.read(0) == b""
    assert reason(storage.join(folder, "none.bin")) == "missing_file"
    assert reason(tar_member(storage.join(folder, "none.bin"), 0, 1)) == "missing_file"
    assert reason(tar_member(place, len(data) - 1, 2)) == "truncated"


def test_a_path_has_one_name() -> None:
    for name in ("a.flac", "./a.flac", "x/../a.flac", ".//a.flac", "././a.flac"):
        assert plain(name) == "a.flac"
    assert (
        plain("../x/./a.flac") == "../x/a.flac" and plain("//data//a.flac") == plain("/data/a.flac") == "/data/a.flac"
    )
    assert plain("./" + tar_member("x/../a.tar", 512, 9, "b.g722")) == tar_member("a.tar", 512, 9, "b.g722")
    for name in ("", "s3://bucket/./a.flac", "file:///x/../a.flac", "...", "a.flac.", ".a.flac"):
        assert plain(name) == name


@pytest.mark.medium
def test_rows(folder: str, tmp_path: Path) -> None:
    cells = [{"bytes": b"a" * n, "path": f"{n}.wav"} if n % 3 else None for n in range(10)]
    table = pa.table({"my audio": cells, "plain": [b"b" * n for n in range(10)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    offsets = []
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=4):
            offsets.append(sink.tell())
            writer.write_batch(batch)
    for name in ("x.parquet", "x.arrow"):
        storage.write_bytes(storage.join(folder, name), (tmp_path / name).read_bytes())
    # The schema is written with the first batch: where that begins is for a reader to find.
    file, _ = address.open_arrow(storage.join(folder, "x.arrow"))
    offsets[0] = file.tell()
    for n in (7, 1, 8, 4, 2, 5):
        for column, expected in (("my audio", b"a" * n), ("plain", b"b" * n)):
            assert contents(parquet_row(storage.join(folder, "x.parquet"), n // 4, n % 4, column)) == expected
            assert contents(arrow_row(storage.join(folder, "x.arrow"), offsets[n // 4], n % 4, column)) == expected
    for make, place, first in ((parquet_row, "x.parquet", 0), (arrow_row, "x.arrow", offsets[0])):
        assert reason(make(storage.join(folder, place), first, 3, "my audio")) == "missing_audio"
        assert reason(make(storage.join(folder, place), first, 99, "my audio")) == "unreadable"
        assert reason(make(storage.join(folder, place), first, 0, "none")) == "unreadable"
        assert reason(make(storage.join(folder, "none"), first, 0, "plain")) == "missing_file"
    assert reason(parquet_row(storage.join(folder, "x.arrow"), 0, 0, "plain")) == "unreadable"


@pytest.mark.medium
def test_neighbouring_rows_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"audio": [bytes([n]) * 10_000 for n in range(40)]}), path, row_group_size=10)
    groups = []
    read = address._parquet_column

    def counting(uri: str, stamp: tuple[object, ...], group: int, column: str) -> object:
        groups.append(group)
        return read(uri, stamp, group, column)

    monkeypatch.setattr(address, "_parquet_column", counting)
    for n in range(40):
        assert contents(parquet_row(str(path), n // 10, n % 10, "audio"))[:1] == bytes([n])
    assert groups == [0, 1, 2, 3]


def test_the_cache_stays_within_its_limit() -> None:
    made: list[int] = []

    def make(n: int) -> Callable[[], bytes]:
        return lambda: made.append(n) or bytes(n)  # type: ignore[func-returns-value]

    cache = address._Cache(100, len)
    for n in (40, 50, 40, 60, 40, 50, 500, 50):
        assert len(cache.get((n,), make(n))) == n
        assert cache.total == sum(map(len, cache.values.values()))
        assert cache.total <= 100 or len(cache.values) == 1
    assert made == [40, 50, 60, 50, 500, 50]


def test_raw_containers_are_told_by_name() -> None:
    assert raw_container("/a/b.G722") == raw_container(Path("b.g722")) == "g722"
    assert raw_container("s3://b/a.g722?endpoint_override=h:1") == "g722"
    assert raw_container(tar_member("/a.tar", 0, 9, "x.g722")) == "g722"
    assert raw_container(parquet_row("/a.parquet", 0, 9, "a", "x.g722")) == "g722"
    assert raw_container(tar_member("/a.tar", 0, 9, "x.wav")) is None
    assert raw_container("/a.g722/b.wav") is None


def test_a_fault_that_is_remembered_kept_all_who_met_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"audio": [b"sound" * 99] * 4}), tmp_path / "a.parquet", compression="zstd")
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    whole[40:60] = bytes(20)
    (tmp_path / "a.parquet").write_bytes(whole)
    met = []
    for _ in range(3):
        with pytest.raises(DataError, match=r"a\.parquet") as caught:
            open_address(address.parquet_row(str(tmp_path / "a.parquet"), 0, 1, "audio"))
        met.append(caught.value)
    assert met[1] is not met[2]
