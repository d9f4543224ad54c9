from __future__ import annotations

import json
import resource
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr import parquet_guard, storage
from asr.address import open_address
from asr.audio import encode_flac
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


def test_the_end_of_the_guard_was_blamed_on_a_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a")
    opened = storage.open_input(tmp_path / "a")
    for guard in (Guard(), parquet_guard._guard()):
        guard._process.kill()
        guard._process.wait()
        with pytest.raises(OSError, match="has ended"):
            guard.require_readable(opened)
        assert not guard.alive
    parquet_guard._guard()._process.kill()
    parquet_guard.require_readable(opened)  # another one is tried


def test_a_crash_beside_good_files_is_one_line(killer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    killer.rename(folder / "metadata.parquet")
    (folder / "a.flac").write_bytes(encode_flac(np.zeros(1600, np.float32)))
    with pytest.raises(UserError, match="footer"):
        list(rows(SourceConfig(source=str(folder)), tmp_path / "cache"))


def test_no_wrong_byte_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"audio": [b"a"] * 9, "text": [["b"], []] * 4 + [None]}), tmp_path / "a", store_schema=False
    )
    whole = (tmp_path / "a").read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    random, ended = Random(1), 0
    guard = Guard()
    for _ in range(100):
        wrong = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            wrong[len(whole) - 8 - random.randint(1, footer)] = random.randrange(256)
        (tmp_path / "b").write_bytes(wrong)
        try:
            guard.require_readable(storage.open_input(tmp_path / "b"))
        except ValueError as error:
            ended += "crash" in str(error)
        assert guard.alive
    assert ended  # some do: else this test would show nothing
    guard.close()
