from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.errors import DataError
from asr.io import storage
from asr.io.parquet.pages import believed, walk


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_are_what_the_writer_made(tmp_path: Path, codec: str, version: str) -> None:
    columns: dict[str, Any] = {
        "often": ["a" * (10 + n % 7) for n in range(5000)],
        "once": pa.array([f"row {n} " * 20 for n in range(5000)]),
        "number": np.arange(5000),
        "list": [[1] * (n % 3) for n in range(5000)],
    }
    settings = {"data_page_version": version, "data_page_size": 10_000, "use_dictionary": ["often", "number"]}
    pq.write_table(pa.table(columns), tmp_path / "a", compression=codec, **settings)
    group = pq.ParquetFile(tmp_path / "a").metadata.row_group(0)
    opened = storage.open_input(tmp_path / "a")
    for number in range(group.num_columns):
        leaf = group.column(number)
        pages = walk(opened, leaf)
        assert pages.values == leaf.num_values
        # The footer counts the headers too.
        assert 0 < pages.total <= believed(leaf).total
        assert pages.largest < max(pages.total, 20_000)
    assert walk(opened, group.column(0)).entry == 16
    assert walk(opened, group.column(1)).entry == 0


def test_headers_that_are_none_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a")
    leaf = pq.ParquetFile(tmp_path / "a").metadata.row_group(0).column(0)
    whole = (tmp_path / "a").read_bytes()
    for rubbish in (b"\xff" * 60, b"\x1c" * 60, b"\x19" * 60, b"\x00" * 60):
        (tmp_path / "a").write_bytes(whole[:4] + rubbish + whole[64:])
        with pytest.raises(DataError, match="malformed_row"):
            walk(storage.open_input(tmp_path / "a"), leaf)


@pytest.mark.parametrize("again", ["", "06c801", "11"])
def test_a_size_that_is_said_twice_or_is_none_took_what_the_other_reader_believed(tmp_path: Path, again: str) -> None:
    """Page type 0, sizes of 1 GB and 100 bytes; then again, from field 0 on: 100 as a long, or true."""
    header = bytes.fromhex("1500158094ebdc0715c801") + (bytes.fromhex("0604" + "c801") if again else b"") + bytes(40)
    if again == "11":
        header = bytes.fromhex("15002115c80100") + bytes(40)
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a")
    leaf = pq.ParquetFile(tmp_path / "a").metadata.row_group(0).column(0)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[:4] + header + whole[4 + len(header) :])
    if again:
        with pytest.raises(DataError, match="malformed_row"):
            walk(storage.open_input(tmp_path / "a"), leaf)
    else:
        assert walk(storage.open_input(tmp_path / "a"), leaf).total >= 1_000_000_000
