from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.data.sources import SourceConfig, rows
from asr.errors import UserError
from asr.io.storage import join
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import assert_same_speech, good, message, read, write_audio


@pytest.mark.medium
def test_round_trip(tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str]) -> None:
    names = write_audio(tmp_path / "set/wavs", clips, "mp3")
    with open(tmp_path / "set/list.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["Path", "Sentence", "seconds", "lang", "age"])
        writer.writerows([f"wavs/{n}", c.text, c.duration_s, "en-US", ""] for n, c in zip(names, clips, strict=True))
    found = good(read(join(place(tmp_path / "set"), "list.csv")))
    assert_same_speech(found, clips)
    assert [row.duration_s for row in found] == [clip.duration_s for clip in clips]
    assert {row.language for row in found} == {"en"}
    assert found[0].meta == {}


def test_quotes_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('file,text\r\na.wav,"She said ""no, no""."\r\nb.wav,x\u2028y\r\n'.encode())
    assert [row.text for row in good(read(str(tmp_path / "a.csv")))] == ['She said "no, no".', "x\u2028y"]
    (tmp_path / "a.tsv").write_bytes(b'file\ttext\r\na.wav\t"An open quote\r\nb.wav\tnext\r\n')
    assert [row.text for row in good(read(str(tmp_path / "a.tsv")))] == ['"An open quote', "next"]


def test_unusable_rows_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "path,text,lang,duration,page\na.wav,uno,it,1,7\n,due,it,1,7\nc.wav,tre,xx,1,7\nd.wav,quattro,it,-1,7\n"
        "e.wav,cinque\nf.wav,sei,it,1,7,8\ng.wav,,,,\n"
    )
    found = read(str(tmp_path / "a.csv"))
    assert [row.reason for row in found if isinstance(row, Quarantined)] == [
        "missing_audio",
        "unknown_language",
        "bad_number",
        "malformed_row",
        "malformed_row",
    ]
    assert [row for row in found if isinstance(row, Utterance)] == [
        Utterance("a.wav", str(tmp_path / "a.wav"), "uno", 1.0, "it", meta={"page": "7"}),
        Utterance("g.wav", str(tmp_path / "g.wav")),
    ]
    overridden = read(str(tmp_path / "a.csv"), language="si")
    assert [row.language for row in overridden if isinstance(row, Utterance)] == ["si", "si", "si"]


def test_stretches_of_a_recording(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,text,start,end\nlong.wav,uno,0,1.5\nlong.wav,due,1.5,4\n")
    assert [(row.id, row.start_s, row.end_s, row.duration_s) for row in good(read(str(tmp_path / "a.csv")))] == [
        ("long.wav@0", 0.0, 1.5, 1.5),
        ("long.wav@1.5", 1.5, 4.0, 2.5),
    ]


def test_what_a_person_must_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("path,said\na.wav,uno\n")
    hint = "name it: columns: {text: NAME} or --column text=NAME"
    assert message(str(path)) == f"{path}: no column for text: its columns are path, said ({hint})"
    assert [row.text for row in good(read(str(path), columns={"text": "said"}))] == ["uno"]
    path.write_text("chemin,phrase\na,uno\n")
    assert "if the first line is a row already: header: false or --no-header" in message(str(path))
    numbers = {"header": False, "columns": {"audio": 1, "text": 2}}
    assert [row.text for row in good(read(str(path), **numbers))] == ["phrase", "uno"]
    path.write_text("path^text\na^uno\n")
    assert "delimiter: CHARACTER or --delimiter CHARACTER" in message(str(path))
    assert [row.text for row in good(read(str(path), delimiter="^"))] == ["uno"]
    path.write_text("path,text\n")
    assert "no rows" in message(str(path))
    path.write_bytes(b"path,text\na.wav,perch\xe9\n")
    assert "UTF-8" in message(str(path))
    path.write_text("path,text\n" + "\n")
    assert "no rows" in message(str(path))


def test_rows_behind_a_stray_quotation_mark_are_read(tmp_path: Path) -> None:
    """Of 100 rows with two of them, 55 lay inside one cell."""
    texts = [f"frase {n}" if n not in (5, 60) else f'"frase {n}' for n in range(100)]
    (tmp_path / "a.csv").write_text("path,text\n" + "".join(f"{n}.wav,{text}\n" for n, text in enumerate(texts)))
    assert [row.text for row in good(read(str(tmp_path / "a.csv")))] == texts


def test_a_cell_of_any_length_costs_no_other_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,text\na.wav," + "x" * 200_000 + "\nb.wav,uno\n")
    assert [len(row.text) for row in good(read(str(tmp_path / "a.csv")))] == [200_000, 3]


def test_what_excel_saves_in_europe(tmp_path: Path) -> None:
    table = 'sep=;\r\npath;text;duration\r\na.wav;"uno; due, tre";1,5\r\nb.wav;x;2\r\n;;\r\n'
    (tmp_path / "a.csv").write_bytes(table.encode("utf-8-sig"))
    first, second, empty = read(str(tmp_path / "a.csv"))
    assert isinstance(first, Utterance)
    assert (first.text, first.duration_s) == ("uno; due, tre", 1.5)
    assert isinstance(second, Utterance)
    assert isinstance(empty, Quarantined)
    assert empty.reason == "missing_audio"


def test_a_delimiter_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path\ttext,or not\na.wav\tuno\n")
    (row,) = good(read(str(tmp_path / "a.csv"), delimiter="tab", columns={"text": "text,or not"}))
    assert row.text == "uno"


def test_names_of_clips_without_a_folder_or_suffix(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/b.mp3").write_bytes(b"x")
    (tmp_path / "a.csv").write_text("file,text\na,uno\nb,due\n")
    assert [row.audio for row in good(read(str(tmp_path / "a.csv")))] == [f"{tmp_path}/clips/{n}.mp3" for n in "ab"]


def test_the_index_that_pandas_writes_destroyed_every_row(tmp_path: Path) -> None:
    for head, cell in ((",path,text", "0"), ("path,text,", "a note")):
        line = f"{cell},a.wav,ciao" if head.startswith(",") else f"a.wav,ciao,{cell}"
        (tmp_path / "t.csv").write_text(f"{head}\n{line}\n")
        (row,) = rows(SourceConfig(source=str(tmp_path / "t.csv")), tmp_path)
        assert isinstance(row, Utterance) and (row.text, row.start_s, row.speaker) == ("ciao", 0.0, None)


def test_a_tsv_with_a_quoted_header_had_quotation_marks_in_its_names(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('"path"\t"sentence"\n"a.wav"\t"dice ""ciao"""\n')
    (row,) = rows(SourceConfig(source=str(tmp_path / "t.tsv"), format="csv"), tmp_path)
    assert isinstance(row, Utterance) and (row.audio, row.text) == (str(tmp_path / "a.wav"), 'dice "ciao"')


def test_two_columns_of_one_name_are_told_and_spaces_around_names_are_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,sentence,sentence\na.wav,x,y\n")
    with pytest.raises(UserError, match="2 columns are called 'sentence'"):
        list(rows(SourceConfig(source=str(tmp_path / "t.csv")), tmp_path))
    (tmp_path / "t.csv").write_text(" path , sentence\na.wav,x\n")
    (row,) = rows(SourceConfig(source=str(tmp_path / "t.csv")), tmp_path)
    assert isinstance(row, Utterance) and row.text == "x"


def test_cells_that_pandas_quotes_in_a_tsv_were_text_with_their_marks(tmp_path: Path) -> None:
    cells = ['"dice ""ciao"" a tutti"', '"Ciao" disse "lui"', '"aperta', 'un 5" disco', '"a"b"']
    rows = "".join(f"{n}.wav\t{cell}\n" for n, cell in enumerate(cells))
    (tmp_path / "a.tsv").write_text("path\tsentence\n" + rows)
    assert [row.text for row in good(read(str(tmp_path / "a.tsv")))] == ['dice "ciao" a tutti', *cells[1:]]
    (tmp_path / "a.tsv").write_text('"a.wav"\tuno\n"b.wav"\tdue\n')
    assert [row.id for row in good(read(str(tmp_path / "a.tsv")))] == ["a.wav", "b.wav"]


@pytest.mark.parametrize("line", ["c.wav,Ciao, mondo e altri,", "a.wav,uno,\nc.wav,Ciao, mondo,"])
def test_half_a_text_was_admitted_where_a_comma_is_in_it(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.csv").write_text(f"path,sentence,notes\n{line}\n")
    last = read(str(tmp_path / "a.csv"))[-1]
    assert isinstance(last, Quarantined) and last.reason == "malformed_row"


@pytest.mark.parametrize("header", ["path\tsentence\tage", '"path"\t"sentence"\t"age"'])
def test_a_quoted_cell_of_several_lines_in_a_tsv_was_malformed(tmp_path: Path, header: str) -> None:
    texts = ["uno\ndue", 'dice "ciao"\n\na tutti', "un\ttab", "tre", '"uno"\n"due"']
    with open(tmp_path / "a.tsv", "w", newline="", encoding="utf-8") as file:
        file.write(header + "\n")
        csv.writer(file, delimiter="\t").writerows([f"{n}.wav", text, "x"] for n, text in enumerate(texts))
    assert [row.text for row in good(read(str(tmp_path / "a.tsv")))] == texts


def test_stray_marks_of_a_tsv_join_no_rows(tmp_path: Path) -> None:
    """Common Voice's have them: here in a table of any name, with clips that have a suffix or none."""
    texts = ['"Ciao', 'disse"', '"', "x", '"Ma', 'no" e', '"a"b"', '""', '"sì" "no"']
    for end in (".mp3", ""):
        (tmp_path / "a.tsv").write_text("path\tsentence\n" + "".join(f"c{n}{end}\t{t}\n" for n, t in enumerate(texts)))
        assert [row.text for row in good(read(str(tmp_path / "a.tsv")))] == [t if t != '""' else "" for t in texts]


def test_a_text_of_several_lines_before_the_name_of_its_clip(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,path\n"uno\ndue",a.wav\ntre,b.wav\n"quattro\n\ncinque, sei",c.wav\n')
    found = [(row.id, row.text) for row in good(read(str(tmp_path / "a.csv")))]
    assert found == [("a.wav", "uno\ndue"), ("b.wav", "tre"), ("c.wav", "quattro\n\ncinque, sei")]


@pytest.mark.parametrize(
    ("name", "title", "columns"),
    [
        ("a.csv", "My corpus 2024\n\n", "path,text"),
        ("a.csv", "Corpus, of 2024\nby X, Y, and Z\n\n", "path,text"),
        ("a.csv", "My corpus 2024;;\r\n;;\r\n", "Path;Text"),
        ("a.csv", 'sep=;\n"My corpus"\n', "path;text"),
        ("a.tsv", "My corpus 2024\n\n", "path\tsentence"),
        ("a.csv", "# made by a tool\n", "path|text"),
    ],
)
def test_titles_above_the_header_refused_a_table(tmp_path: Path, name: str, title: str, columns: str) -> None:
    mark = columns[4]
    (tmp_path / name).write_text(f"{title}{columns}\na.wav{mark}uno\nb.wav{mark}due\n")
    assert [(row.id, row.text) for row in good(read(str(tmp_path / name)))] == [("a.wav", "uno"), ("b.wav", "due")]


def test_a_header_of_unusual_names_below_a_title_is_found_by_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("My corpus 2024\n\nDatei,Satz\na.wav,uno\n")
    assert "if its header is a line further down: name its columns, or remove what" in message(str(tmp_path / "a.csv"))
    found = good(read(str(tmp_path / "a.csv"), columns={"audio": "Datei", "text": "Satz"}))
    assert [(row.id, row.text) for row in found] == [("a.wav", "uno")]


def test_a_row_that_reads_like_a_header_is_a_row(tmp_path: Path) -> None:
    """Below rows, whether their table has a header or none."""
    (tmp_path / "a.csv").write_text("a.wav,uno\npath,text\nb.wav,due\n")
    assert [row.id for row in read(str(tmp_path / "a.csv"))] == ["a.wav", "path", "b.wav"]
    (tmp_path / "a.csv").write_text("x,uno\npath,text\nb.wav,due\n")
    found = read(str(tmp_path / "a.csv"), header=False, columns={"audio": 1, "text": 2})
    assert [row.id for row in found] == ["x", "path", "b.wav"]
