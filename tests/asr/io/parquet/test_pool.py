from __future__ import annotations

from pathlib import Path
from random import Random

import psutil
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.io.parquet.guard import guard
from asr.io.parquet.pool import MOST_FREE
from asr.io.parquet.reader import LEAN_BYTES
from asr.io.parquet.row_groups import Table, audio_cells, open_parquet


def waiting() -> set[int]:
    """The processes that read Parquet files for this one."""
    ended = psutil.STATUS_ZOMBIE
    return {each.pid for each in psutil.Process(guard().pid).children() if each.status() != ended}


def table(path: Path, cells: list[bytes]) -> Table:
    pq.write_table(pa.table({"audio": cells}), path)
    return open_parquet(str(path))


@pytest.mark.medium
def test_of_many_tables_that_are_open_a_few_have_a_process_and_all_are_read(tmp_path: Path) -> None:
    tables = [table(tmp_path / str(n), [b"%d" % n] * 3) for n in range(3 * MOST_FREE)]
    for _ in range(2):
        for number, each in enumerate(tables):
            [cells] = audio_cells(each, 0, "audio")
            assert cells.to_pylist() == [b"%d" % number] * 3
    guard().end_of(0)  # it has heard of all that ended before
    assert len(waiting()) <= MOST_FREE + 1


@pytest.mark.slow
def test_a_process_that_holds_much_does_not_wait(tmp_path: Path) -> None:
    large = table(tmp_path / "large", [Random(n).randbytes(LEAN_BYTES // 4) for n in range(8)])
    before = waiting()
    for _ in range(2):
        assert sum(map(len, audio_cells(large, 0, "audio"))) == 8
        held = [psutil.Process(pid).memory_info() for pid in waiting()]
        assert all(each.rss - each.shared < 2 * LEAN_BYTES for each in held)
    assert len(waiting()) <= len(before) + 1
    large.close()
