from __future__ import annotations

import os

import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from asr.io.parquet.reader import _stream


def batches_of(content: bytes, says: int | None = None) -> list[pa.RecordBatch]:
    file = os.memfd_create("batch")
    try:
        os.write(file, content)
        return _stream(file, len(content) if says is None else says)
    finally:
        os.close(file)


def test_what_a_reader_says_is_looked_through() -> None:
    batch = pa.record_batch({"audio": [b"a" * 99, b"b"], "text": [["a"], None]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    whole = sink.getvalue().to_pybytes()
    assert batches_of(whole) == [batch]
    for wrong in (b"", b"nonsense" * 9, whole[:-40], whole.replace(b"\x63\0\0\0\x64", b"\x63\0\0\x70\x64")):
        with pytest.raises(ValueError, match=r"\w"):
            batches_of(wrong)
    with pytest.raises(ValueError, match="nonsense"):
        batches_of(whole, says=len(whole) + 4096)  # reading there would end this process
