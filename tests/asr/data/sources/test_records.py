from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.sources.records import MAX_LINES, Quoting, lines_of, records, split_line, surplus_of

HOSTILE = st.text(st.sampled_from('ab "",;\t|\r\x00é\u2028\x85.\'\\'), max_size=12)
SAID = st.text(st.sampled_from('ab "",;\n\r\té'), max_size=12)


def read(
    text: str, delimiter: str = ",", width: int = 2, quoted: Quoting = "always", surplus: int = 0, key: int = 0
) -> list[tuple[int, list[str] | str]]:
    lines = lines_of(io.StringIO(text, newline="\n"))
    found = records(lines, delimiter, quoted, width, key, surplus)
    return [(record.line, record.fault or record.cells) for record in found]


def cells(text: str, **settings: object) -> list[list[str] | str]:
    return [found for _, found in read(text, **settings)]  # type: ignore[arg-type]


def test_a_stray_quotation_mark_swallows_no_row() -> None:
    """As in a table of 100 rows of which 55 lay in one cell."""
    rows = [[f"{n}.wav", ('"' if n in (7, 62) else "") + f"said {n}"] for n in range(100)]
    assert cells("".join(f"{name},{said}\n" for name, said in rows)) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a.wav,"x\nb.wav,y"\n', [["a.wav", '"x'], ["b.wav", 'y"']]),  # the second one closes it well
        ('a.wav,"x\nb.wav\nc.wav,y"\n', [["a.wav", '"x'], "1 cells, not 2", ["c.wav", 'y"']]),
        ('a.wav,"x" y\nb.wav,z\n', [["a.wav", '"x" y'], ["b.wav", "z"]]),
        ('a.wav,x "y" z\nb.wav,5" disk\n', [["a.wav", 'x "y" z'], ["b.wav", '5" disk']]),
        ('"a.wav","x\n"b.wav","y"\n', [["a.wav", '"x'], ["b.wav", "y"]]),
        ('a.wav,"x\n', [["a.wav", '"x']]),
        ('a.wav,"x\n\n\n', [["a.wav", '"x']]),
        ('a.wav,"\nb.wav,"\nc.wav,y\n', [["a.wav", '"'], ["b.wav", '"'], ["c.wav", "y"]]),
    ],
)
def test_stray_marks_are_text(text: str, expected: list[list[str] | str]) -> None:
    assert cells(text) == expected


@pytest.mark.parametrize(
    "said", ["one\ntwo", "one,\ntwo, three", '"one"\n"two"', "\n\none", "see b.wav\nand c.wav, too"]
)
def test_a_quoted_cell_of_several_lines_is_one_row(said: str) -> None:
    quoted = said.replace('"', '""')
    assert read(f'a.wav,"{quoted}"\nb.wav,y\n') == [(1, ["a.wav", said]), (2 + said.count("\n"), ["b.wav", "y"])]


def test_what_may_be_either_is_a_fault_for_each_line() -> None:
    found = cells('id1,"x\nid2,y"\nid3,z\n')
    assert found[2:] == [["id3", "z"]]
    assert [str(fault).startswith("a quotation mark") for fault in found[:2]] == [True, True]


def test_a_mark_without_an_end_costs_one_row_however_long_the_table_is() -> None:
    count = 3 * MAX_LINES
    found = read('0.wav,"x\n' + "".join(f"{n}.wav,y\n" for n in range(1, count)))
    assert [line for line, _ in found] == list(range(1, count + 1))


def test_line_ends_of_all_kinds() -> None:
    rows = [["a.wav", "x"], ["b.wav", "y"], ["c.wav", "z"]]
    for text in ("a.wav,x\r\nb.wav,y\nc.wav,z", "a.wav,x\rb.wav,y\rc.wav,z", "a.wav,x\r\n\r\nb.wav,y\r\rc.wav,z\n\n"):
        assert cells(text) == rows
    assert cells("a.wav,x\nb.wav,y\rc.wav,z\n") == rows
    assert cells("a.wav,x\nb.wav,y\rz\n") == [["a.wav", "x"], ["b.wav", "y\rz"]]


def test_cells_that_are_too_many_or_too_few() -> None:
    assert cells("a.wav,x,,\na.wav\na.wav,x,y\n", surplus=2) == [["a.wav", "x"], "1 cells, not 2", "3 cells, not 2"]
    assert cells('a.wav\t"x\nb.wav\ty"\n', delimiter="\t", quoted="never") == [["a.wav", '"x'], ["b.wav", 'y"']]


def test_a_comma_within_a_text_and_an_empty_last_cell_cost_half_the_text() -> None:
    assert cells("a.wav,Ciao, mondo,\n", width=3) == ["4 cells, not 3"]
    rows = [["a.wav", "x", ""], ["b.wav", "y", ""]]
    assert surplus_of(rows, 2) == 1 and surplus_of([*rows, ["c.wav", "z"]], 2) == 0
    assert surplus_of([["a.wav", "x", "y"]], 2) == 0 and surplus_of([], 2) == 0


def test_cells_of_one_line() -> None:
    assert split_line('"a, b","c ""d""",e "f",\n', ",") == ["a, b", 'c "d"', 'e "f"', ""]
    assert split_line('"a|b"|c', "|", quoted=False) == ['"a', 'b"', "c"]


@given(
    st.lists(SAID, min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["always", "rarely"]),
    st.booleans(),
)
def test_what_a_csv_writer_wrote_comes_back(said: list[str], delimiter: str, quoted: Quoting, name_last: bool) -> None:
    if name_last:  # else a line of the text may be a row of its own
        said = [text.replace(delimiter, " ") for text in said]
    table = io.StringIO()
    rows = [[text, "x", f"{n}.wav"] if name_last else [f"{n}.wav", "x", text] for n, text in enumerate(said)]
    csv.writer(table, delimiter=delimiter).writerows([["a", "b", "c"], *rows])
    found = cells(table.getvalue(), delimiter=delimiter, width=3, quoted=quoted, key=2 if name_last else 0)
    assert found[1:] == rows


@given(
    st.lists(HOSTILE, min_size=1, max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from(["always", "rarely", "never"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_in_is_out_and_faults(said: list[str], delimiter: str, quoted: Quoting, end: str) -> None:
    """Lines that are rows by their first cell, whatever stands behind it: each comes back once, in order."""
    text = end.join(["path" + delimiter + "text", *(f"{n}.wav{delimiter}{each}" for n, each in enumerate(said))]) + end
    found = read(text, delimiter=delimiter, quoted=quoted)
    assert [line for line, _ in found] == list(range(1, len(said) + 2))
    for n, (_, row) in enumerate(found[1:]):
        assert isinstance(row, str) or row[0] == f"{n}.wav"
