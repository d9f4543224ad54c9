from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.quarantine import Reason, by_reason
from asr.utterance import Quarantined


def test_the_most_frequent_reason_comes_first_with_an_example_that_says_something() -> None:
    rows = [Quarantined("a", "no_speech"), Quarantined("b", "silent"), Quarantined("c", "silent", "2 s")]
    assert by_reason(rows) == [Reason("silent", 2, "c", "2 s"), Reason("no_speech", 1, "a", "")]
    assert by_reason([]) == []


@pytest.mark.medium
@given(st.lists(st.builds(Quarantined, st.text(), st.sampled_from("abc"), st.text(max_size=1))))
def test_every_row_is_counted_once(rows: list[Quarantined]) -> None:
    found = by_reason(rows)
    assert sum(one.rows for one in found) == len(rows)
    assert {one.reason for one in found} == {row.reason for row in rows}
    assert all(Quarantined(one.example, one.reason, one.detail) in rows for one in found)
