from __future__ import annotations

import json
import resource
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr import storage
from asr.address import open_address
from asr.errors import DataError, UserError
from asr.parquet_guard import Guard
from asr.sources import SourceConfig, rows

# Of 71 bytes: a footer of two columns, with a row group of three.
KILLER = bytes.fromhex(
    "504152311502193c4806736368656d61150400150c25021805617564696f00150c2502180474657874001602191c193c2600"
    "002600002600001600160200003b00000050415231"
)


@pytest.fixture
def killer(tmp_path: Path) -> Path:
    path = tmp_path / "killer.parquet"
    path.write_bytes(KILLER)
    return path


def test_71_bytes_ended_the_process(killer: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="footer"):
        list(rows(SourceConfig(source=str(killer)), tmp_path / "cache"))


def test_71_bytes_at_an_address_ended_the_process(killer: Path) -> None:
    for _ in range(2):
        with pytest.raises(DataError, match="footer"):
            open_address(f"{killer}#row_group=0&row=0&column=audio")


def test_a_footer_took_all_memory(tmp_path: Path) -> None:
    count = 200_000  # of three bytes each, for which pyarrow keeps some hundred MB
    columns = bytes([0x19, 0xFC, *(count >> 7 * at & 127 | 128 * (at < 2) for at in range(3))]) + b"\x26\0\0" * count
    footer = KILLER[4:-8].replace(bytes.fromhex("193c260000260000260000"), columns)
    (tmp_path / "a").write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    guard = Guard(32 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="memory"):
        guard.require_readable(storage.open_input(tmp_path / "a"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (32 << 10)
    guard.close()


def test_an_ordinary_file_and_what_is_none_pass(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [json.dumps(n) for n in range(10)]}), tmp_path / "a")
    (tmp_path / "b").write_bytes(b"no Parquet")
    guard = Guard()
    for name in "ab":
        guard.require_readable(storage.open_input(tmp_path / name))
    guard.close()
