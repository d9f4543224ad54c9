from __future__ import annotations

import math
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.manifest import read_manifest
from asr.data.sources import SourceConfig, rows
from asr.data.transcript_cell import told, transcript
from asr.errors import DataError, UserError
from asr.utterance import Quarantined, Utterance

not_text = (
    st.floats() | st.booleans() | st.binary() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()) | st.dates()
)


@given(not_text)
def test_what_is_not_text_never_becomes_a_word(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        transcript(value)
    assert caught.value.reason == "not_text"
    assert len(caught.value.detail) < 120 and "\n" not in caught.value.detail


@given(st.text())
def test_text_is_what_is_written(text: str) -> None:
    assert transcript(text) == text


@pytest.mark.parametrize("word", ["nan", "NaN", "null", "NA", "None", "true", "inf", ""])
def test_words_of_a_table_stay_words(word: str) -> None:
    assert transcript(word) == word


def test_whole_numbers_may_have_been_said() -> None:
    assert (transcript(1984), transcript(np.int64(7)), transcript(None)) == ("1984", "7", "")


def test_a_name_that_is_no_number_is_no_name() -> None:
    assert told(math.nan) is told(math.inf) is told(np.float64("nan")) is told(None) is None
    assert (told(1.5), told("nan"), told(3)) == (1.5, "nan", 3)


def parquet(path: Path, text: pa.Array) -> str:
    audio = pa.array([b"RIFF"] * len(text), pa.binary())
    pq.write_table(pa.table({"audio": audio, "text": text}), path)
    return str(path)


def saved(path: Path, text: pa.Array) -> str:
    table = pa.table({"audio": pa.array(["a.wav"] * len(text)), "text": text})
    datasets.Dataset(table).save_to_disk(path)
    return str(path)


NO_WORDS = {
    "a float, as pandas makes of a column with gaps": [1984.0, math.nan],
    "truth values": [True, False],
    "lists": [["ciao"], []],
    "objects": [{"raw": "ciao"}, {"raw": ""}],
    "bytes": [b"ciao", b""],
}


@pytest.mark.parametrize("cells", NO_WORDS.values(), ids=NO_WORDS)
def test_text_that_is_none_never_becomes_a_word_in_tables(tmp_path: Path, cells: list[Any]) -> None:
    datasets.disable_progress_bars()
    column = pa.array(cells)
    for place in (parquet(tmp_path / "x.parquet", column), saved(tmp_path / "saved", column)):
        reasons = [row.reason for row in rows(SourceConfig(source=place), tmp_path) if isinstance(row, Quarantined)]
        assert reasons == ["not_text", "not_text"]


@pytest.mark.parametrize(
    "cell", ["NaN", "Infinity", "-Infinity", "1.5", "true", "false", '["ciao"]', '{"raw": "ciao"}']
)
def test_text_that_is_none_never_becomes_a_word_in_json(tmp_path: Path, cell: str) -> None:
    """``NaN`` is how pandas writes a missing transcript, and Python's reader takes it."""
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    line = f'{{"audio": "a.wav", "file_name": "a.wav", "text": {cell}, "speaker": NaN, "id": NaN}}\n'
    for name in ("m.jsonl", "metadata.jsonl"):
        (tmp_path / name).write_text(line)
    (tmp_path / "a.json").write_text(line)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("a.wav", "a.json"):
            tar.add(tmp_path / name, name)
    for place in (tmp_path / "m.jsonl", tmp_path, tmp_path / "x.tar"):
        format = "audiofolder" if place is tmp_path else "auto"
        (row,) = rows(SourceConfig(source=str(place), format=format), tmp_path)
        assert isinstance(row, Quarantined) and row.reason == "not_text", place
        assert row.id != "nan"


@given(st.sampled_from(["nan", "NaN", "null", "NA", "None", "true", "1.5", "inf"]), st.sampled_from([",", "\t"]))
def test_words_in_tables_stay_words(word: str, comma: str) -> None:
    """In a table nothing tells the word from the value."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("t.tsv" if comma == "\t" else "t.csv")
        path.write_text(f"path{comma}sentence\na.wav{comma}{word}\n", encoding="utf-8")
        (row,) = rows(SourceConfig(source=str(path)), Path(folder))
    assert isinstance(row, Utterance) and row.text == word


def test_a_speaker_or_an_id_that_is_nan_is_none(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio": "a.wav", "text": "x", "speaker": NaN, "language": NaN, "utt": NaN}\n')
    (row,) = rows(SourceConfig(source=str(path), columns={"id": "utt"}), tmp_path)
    assert row == Utterance("a.wav", str(tmp_path / "a.wav"), "x")


def test_a_manifest_of_pandas_is_refused_by_its_line_where_texts_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"audio_filepath": "a.wav", "text": "x"}\n{"audio_filepath": "b.wav", "text": NaN, "speaker": NaN}\n'
    )
    with pytest.raises(UserError, match=r"m\.jsonl:2: text: .*not_text: the transcript is nan, a float"):
        read_manifest(path)
    assert [(row.text, row.speaker) for row in read_manifest(path, texts=False)] == [("", None), ("", None)]
    path.write_text(
        '{"audio_filepath": "a.wav", "text": 1984, "lang": NaN, "id": NaN}\n{"audio_filepath": "b.wav", "text": null}\n'
    )
    assert [(row.id, row.text, row.language) for row in read_manifest(path)] == [
        ("a.wav", "1984", None),
        ("b.wav", "", None),
    ]
