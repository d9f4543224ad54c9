from __future__ import annotations

from typing import Any

import pytest

from asr.data.sources.config import SourceConfig
from asr.data.sources.dialect import Dialect, sniff
from asr.errors import UserError


def told(*lines: str, name: str = "a.csv", template: str = "", **settings: Any) -> Dialect:
    return sniff(SourceConfig(source=name, **settings), name, [f"{line}\r\n" for line in lines], template)


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["path,text", "a.wav,uno; due; tre"], ","),
        (["path;text", "a.wav;uno, due, tre"], ";"),
        (["path\ttext", "a.wav\tuno, due"], "\t"),
        (["path|text", "a.wav|uno, due"], "|"),
        (['"path";"text, as said"', '"a.wav";"uno; due"'], ";"),
        (["clip_ref;said,so", "a;x", "b;y"], ";"),  # the names are nobody's: the rows decide
        (["path", "a.wav"], ","),
    ],
)
def test_what_separates_cells(lines: list[str], delimiter: str) -> None:
    assert told(*lines).delimiter == delimiter


def test_what_is_set_is_not_guessed() -> None:
    assert told("path,x;text", "a.wav;b,c", delimiter=";").names == ["path,x", "text"]
    assert told("path,text", "a.wav,b", header=False).names == ["1", "2"]
    assert told("a.wav,uno", "b.wav,due", header=True).names == ["a.wav", "uno"]
    assert told("path^text", "a^b", delimiter="^").delimiter == "^"


def test_excel_says_what_separates() -> None:
    found = told("sep=;", "path;text", "a.wav;uno")
    assert (found.delimiter, found.names, found.skipped) == (";", ["path", "text"], 2)
    assert told('"sep=|"', "", "path|text").skipped == 3


def test_a_name_may_say_tabs() -> None:
    assert (told("path\ttext", name="a.tsv").quoted, told("path\ttext").quoted) == ("rarely", "always")
    assert told("path,text", "a.wav,b", name="a.tsv").delimiter == ","


def test_a_table_without_a_header_has_columns_by_number() -> None:
    found = told("a.wav,uno", "b.wav,due")
    assert (found.header, found.names, found.columns, found.skipped) == (
        False,
        ["1", "2"],
        {"audio": "1", "text": "2"},
        0,
    )
    assert told("uno,a.wav", "due,b.wav").columns == {"audio": "2", "text": "1"}
    assert told("x,a.wav,uno", columns={"text": 3}).columns == {"audio": "2", "text": "3"}
    assert told("x,a.wav,uno").columns == {"audio": "2"}  # which of two is the text, nobody knows
    assert told("a,uno", columns={"audio": 1, "text": 2}).header is False
    assert told("LJ1|Dr. X|Doctor X", template="wavs/{}.wav").columns == {"audio": "1", "text": "3"}


def test_a_header_of_unknown_names_is_one() -> None:
    assert told("chemin,phrase", "a.wav,uno").header
    assert told("chemin,phrase", columns={"audio": "chemin"}).columns == {"audio": "chemin"}
    assert told("path,phrase", columns={"text": 2}).columns == {"text": "phrase"}


def test_a_table_needs_a_line() -> None:
    with pytest.raises(UserError, match="no rows"):
        told("", " ")


def test_every_row_of_r_was_malformed_for_its_number() -> None:
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        header, *rows = [line.replace(",", mark) for line in ('"path","text"', '"1","a.wav","x"', '"2","b.wav","y"')]
        assert told(header, *rows, name=name).names == ["", "path", "text"]
        assert told(header, rows[0], name=name).names == ["path", "text"]  # or a comma within its text
    assert told("path,text", "1,Ciao, mondo", "2,Ah, e tu").names == ["path", "text"]
    assert told('"path","text"', '"7","a.wav","x"', '"9","b.wav","y"').names == ["path", "text"]
