from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from asr.data.sources.cells import AudioColumn, audio_column, metadata_columns, table_rows
from asr.data.sources.columns import ColumnMap
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance

COLUMNS = ColumnMap({"audio": "a", "text": "t", "segments": "s"}, None)
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        (pa.string(), AudioColumn("a", False, "a", "a")),
        (pa.large_binary(), AudioColumn("a", True, "a", None)),
        (STRUCT, AudioColumn("a", True, "a.bytes", "a.path")),
        (pa.struct([("bytes", pa.binary())]), AudioColumn("a", True, "a.bytes", None)),
    ],
)
def test_audio_columns(type: Any, expected: AudioColumn) -> None:
    assert audio_column(pa.schema([("a", type)]), COLUMNS, "x") == expected


@pytest.mark.parametrize("type", [pa.list_(pa.float32()), pa.int64(), pa.struct([("array", pa.list_(pa.float32()))])])
def test_no_audio(type: Any) -> None:
    with pytest.raises(UserError, match="x: column 'a' holds"):
        audio_column(pa.schema([("a", type)]), COLUMNS, "x")


def test_only_what_is_used_is_read() -> None:
    floats = pa.list_(pa.float32())
    schema = pa.schema(
        [("a", STRUCT), ("t", pa.string()), ("s", floats), ("embedding", floats), ("image", pa.binary())]
    )
    assert metadata_columns(schema, COLUMNS) == ["t", "s"]


def test_rows() -> None:
    records = [{"t": "uno"}, {"t": "due"}, {"t": "tre"}]
    audio = [(True, "in.wav"), (False, "out.wav"), (False, None)]
    first, second, third = table_rows(records, audio, COLUMNS, "/data", lambda n: (f"id {n}", f"address {n}"))
    assert first == Utterance("id 0", "address 0", "uno")
    assert second == Utterance("id 1", "/data/out.wav", "due")
    assert isinstance(third, Quarantined)
