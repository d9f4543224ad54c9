from __future__ import annotations

from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.errors import DataError
from asr.io.parquet import row_groups
from asr.io.parquet.row_groups import BATCH_ROWS, FEW_ROWS, audio_cells, batches, leaves, open_parquet

BATCH_BYTES = 8 << 20


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small bounds, so that what lies above them is made and read in no time."""
    monkeypatch.setattr(row_groups, "BATCH_BYTES", BATCH_BYTES)
    monkeypatch.setattr(row_groups, "MAX_GROUP_BYTES", 2 * BATCH_BYTES)


def written(path: Path, audio: pa.Array, text: list[str]) -> pq.ParquetFile:
    pq.write_table(pa.table({"audio": audio, "text": text}), path, compression="zstd", store_schema=False)
    return open_parquet(str(path))


@pytest.mark.medium
def test_small_rows_come_many_at_a_time_and_large_ones_few(tmp_path: Path) -> None:
    small = written(tmp_path / "a", pa.array([b"x"] * 3000), ["said"] * 3000)
    assert [batch.num_rows for batch in batches(small, 0, ["audio", "text"], 1 << 30)] == [BATCH_ROWS, BATCH_ROWS, 952]
    large = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int32()), pa.array([bytes(BATCH_BYTES // 16)]))
    sizes = [
        (batch.num_rows, batch.nbytes)
        for batch in batches(written(tmp_path / "b", large, ["x"] * 40), 0, ["audio"], 1 << 30)
    ]
    assert sum(rows for rows, _ in sizes) == 40
    assert max(size for _, size in sizes) <= BATCH_BYTES * 1.01


@pytest.mark.medium
def test_a_column_is_its_parts_and_none_that_begins_like_it(tmp_path: Path) -> None:
    table = pa.table({"audio": [{"bytes": b"x", "path": "a"}], "audio2": [b"y"]})
    pq.write_table(table, tmp_path / "a")
    file = open_parquet(str(tmp_path / "a"))
    assert [leaf.path_in_schema for leaf in leaves(file, 0, ["audio"])] == ["audio.bytes", "audio.path"]
    assert [leaf.path_in_schema for leaf in leaves(file, 0, ["audio.bytes"])] == ["audio.bytes"]


def test_audio_is_read_to_a_bound(tmp_path: Path) -> None:
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * 20, pa.int32()), pa.array([bytes(BATCH_BYTES // 4)]))
    file = written(tmp_path / "a", cells, ["x"] * 20)
    with pytest.raises(DataError, match="too_large"):
        for _ in audio_cells(file, 0, "audio"):
            pass


def test_what_is_no_parquet_or_has_more_rows_than_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PAR1" * 20)
    with pytest.raises(ValueError, match=r"\w"):
        open_parquet(str(tmp_path / "a"))
    with pytest.raises(ValueError, match="rows in"):
        written(tmp_path / "b", pa.nulls(FEW_ROWS + 1, pa.binary()), [""] * (FEW_ROWS + 1))
