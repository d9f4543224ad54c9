from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from asr.io.parquet.arrow_types import plain

WRONG_TEXT = pa.array([b"\xff"]).view(pa.string())
LATE = pa.array([10**9], pa.int32()).view(pa.time32("ms"))


@pytest.mark.parametrize(
    "values",
    [
        WRONG_TEXT,
        pa.array([b"\xff"], pa.large_binary()).view(pa.large_string()),
        pa.array([b"\xff"], pa.binary_view()).view(pa.string_view()),
        LATE,
        pa.StructArray.from_arrays([LATE, WRONG_TEXT], ["time", "text"]),
        pa.ListArray.from_arrays([0, 1], WRONG_TEXT),
        pa.LargeListArray.from_arrays([0, 1], WRONG_TEXT),
        pa.FixedSizeListArray.from_arrays(WRONG_TEXT, 1),
        pa.ListViewArray.from_arrays([0], [1], WRONG_TEXT),
        pa.LargeListViewArray.from_arrays([0], [1], WRONG_TEXT),
        pa.MapArray.from_arrays([0, 1], pa.array(["key"]), WRONG_TEXT),
        pa.DictionaryArray.from_arrays([0], WRONG_TEXT),
        pa.ExtensionArray.from_storage(pa.json_(), WRONG_TEXT),
        pa.ListArray.from_arrays([0, 1], pa.ExtensionArray.from_storage(pa.json_(), WRONG_TEXT)),
    ],
    ids=lambda values: str(values.type),
)
def test_a_value_that_is_none_is_its_rows_and_no_fault_of_the_array(values: pa.Array) -> None:
    with pytest.raises(pa.ArrowInvalid):
        values.validate(full=True)
    values.view(plain(values.type)).validate(full=True)


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.5,
        True,
        None,
        Decimal("1.5"),
        dt.date(2026, 1, 1),
        dt.datetime(2026, 1, 1),
        dt.timedelta(1),
    ],
    ids=str,
)
def test_other_values_are_looked_at_too(value: object) -> None:
    values = pa.array([value])
    values.view(plain(values.type)).validate(full=True)


def test_offsets_that_lead_elsewhere_are_found() -> None:
    offsets = pa.array([0, 1 << 20, 1], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a")])
    with pytest.raises(pa.ArrowInvalid):
        text.view(plain(text.type)).validate(full=True)
