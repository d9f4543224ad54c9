from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asr.audio.decode import decode
from asr.data.sources import parquet
from asr.errors import DataError, UserError
from asr.io.address import open_address
from asr.io.parquet import row_groups
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import assert_same_speech, audio, good, message, read, write_audio


def write(path: Path, columns: dict[str, list[Any]], rows_per_group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=rows_per_group)
    return path


def structs(clips: list[Utterance], kind: str) -> list[Any]:
    return [{"bytes": audio(clip, kind), "path": f"{clip.id}.{kind}"} for clip in clips]


@pytest.mark.medium
@pytest.mark.parametrize("form", ["binary", "struct"])
def test_round_trip(tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str], form: str) -> None:
    cells = structs(clips, "g722") if form == "struct" else [audio(clip, "mp3") for clip in clips]
    texts = [clip.text for clip in clips]
    seconds = [clip.duration_s for clip in clips]
    parts = {"train-00000-of-00002": slice(0, 3), "train-00001-of-00002": slice(3, 5), "test-00000-of-00001": slice(1)}
    for name, part in parts.items():
        columns = {"audio": cells[part], "sentence": texts[part], "duration": seconds[part]}
        write(tmp_path / f"set/data/{name}.parquet", columns)
    address = place(tmp_path / "set")
    found = good(read(address, split="train"))
    assert_same_speech(found, clips)
    assert [row.duration_s for row in found] == seconds
    assert [row.id for row in found[2:4]] == [
        "data/train-00000-of-00002.parquet:2",
        "data/train-00001-of-00002.parquet:0",
    ]
    assert "its splits are test, train" in message(address)
    assert "did you mean 'train'?" in message(address, split="trian")


@pytest.mark.medium
def test_what_becomes_of_the_other_columns(tmp_path: Path, clips: list[Utterance]) -> None:
    segments = [{"start": 0.0, "end": 1.5, "text": "uno"}]
    columns = {
        "wave": [audio(clips[0], "wav")],
        "said": ["uno"],
        "text": ["raw"],
        "id": [7],
        "snr": [9.5],
        "day": [date(2024, 1, 1)],
        "tokens": [[1, 2]],
        "image": [b"png"],
        "segments": [segments],
        "gender": [None],
    }
    path = str(write(tmp_path / "a.parquet", columns))
    (row,) = good(read(path, columns={"audio": "wave", "text": "said"}))
    assert (row.id, row.meta) == ("a.parquet:0", {"source_text": "raw", "snr": 9.5, "segments": segments})
    (row,) = good(read(path, columns={"audio": "wave", "text": "said", "id": "id"}))
    assert row.id == "7"


@pytest.mark.medium
def test_cells_without_bytes(tmp_path: Path, clips: list[Utterance]) -> None:
    (name,) = write_audio(tmp_path, clips[:1], "flac")
    cells = [
        {"bytes": None, "path": name},
        {"bytes": audio(clips[0], "wav"), "path": None},
        {"bytes": None, "path": None},
        None,
    ]
    found = read(str(write(tmp_path / "a.parquet", {"audio": cells, "text": ["uno", "due", "tre", None]}, 4)))
    assert [row.reason for row in found if isinstance(row, Quarantined)] == ["missing_audio", "missing_audio"]
    assert [len(decode(row.audio)) for row in found if isinstance(row, Utterance)] == [len(decode(clips[0].audio))] * 2
    paths = read(str(write(tmp_path / "b.parquet", {"audio": [name, None], "text": ["uno", "due"]})))
    assert [type(row) for row in paths] == [Utterance, Quarantined]
    assert isinstance(paths[0], Utterance)
    assert len(decode(paths[0].audio)) == len(decode(clips[0].audio))


@pytest.mark.medium
def test_a_file_written_anew_is_read_anew(tmp_path: Path, clips: list[Utterance]) -> None:
    path = tmp_path / "a.parquet"
    lengths = []
    for clip in clips[:2]:
        (row,) = good(read(str(write(path, {"audio": [audio(clip, "wav")], "text": ["uno"]}))))
        lengths.append(len(decode(row.audio)))
    assert lengths == [len(decode(clip.audio)) for clip in clips[:2]]
    path.unlink()
    with pytest.raises(DataError, match="missing_file"):
        decode(row.audio)


def test_what_a_person_must_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write(tmp_path / "a.parquet", {"audio": [[0.5, 0.1]], "text": ["uno"]}))
    assert "column 'audio' holds list<" in message(path)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 this is not")
    assert "not Parquet" in message(str(tmp_path / "b.parquet"))
    assert "no column for text" in message(str(write(tmp_path / "c.parquet", {"audio": [b"x"]})))
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 100)
    path = str(write(tmp_path / "d.parquet", {"audio": [b"x" * 200], "text": ["uno"]}))
    assert "row_group_size=100" in message(path)


def bomb(folder: Path, audio: pa.Array, text: pa.Array, **settings: Any) -> str:
    """A file of a few kilobytes; its message or rows are to be had in seconds, and in a gigabyte or two."""
    path = folder / "bomb.parquet"
    pq.write_table(pa.table({"audio": audio, "text": text}), path, compression="zstd", store_schema=False, **settings)
    assert path.stat().st_size < 200_000
    return str(path)


def often(value: Any, times: int) -> pa.Array:
    """One value that many rows name: in the file it is there once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


@pytest.mark.medium
def test_a_text_that_many_rows_name_took_all_memory(tmp_path: Path) -> None:
    """20 GB of a file of 800 bytes."""
    source = bomb(tmp_path, pa.array([b"x"] * 20_000), often("x" * (1 << 20), 20_000))
    assert "its texts unpack to over 100 times its size" in message(source)


def test_a_text_too_long_for_one_is_its_rows(tmp_path: Path) -> None:
    found = read(bomb(tmp_path, pa.array([b"x"] * 3), often("x" * (2 << 20), 3)))
    assert [row.reason for row in found if isinstance(row, Quarantined)] == ["malformed_row"] * 3


@pytest.mark.medium
def test_a_clip_that_many_rows_name_took_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 GB, of which the table's rows took all where it counts no empty cells, and each clip where it does."""
    monkeypatch.setattr(row_groups, "MAX_GROUP_BYTES", 64 << 20)
    monkeypatch.setattr(row_groups, "BATCH_BYTES", 32 << 20)
    audio, text = often(bytes(1 << 20), 20_000), pa.array(map(str, range(20_000)))
    assert "of audio" in message(bomb(tmp_path, audio, text, write_statistics=False))
    first, *_ = read(bomb(tmp_path, audio, text))
    assert isinstance(first, Utterance)
    with pytest.raises(DataError, match="too_large"):
        open_address(str(first.audio))


def test_a_billion_rows_of_nothing_never_ended(tmp_path: Path) -> None:
    source = bomb(tmp_path, pa.nulls(3_000_000, pa.binary()), pa.nulls(3_000_000, pa.string()))
    assert "rows in" in message(source)


ODD = {
    "text in lists": (pa.array([[["a"]]] * 2), ["not_text"] * 2),
    "text in objects": (pa.array([{"a": 1}] * 2), ["not_text"] * 2),
    "a number": (pa.array([1.5, None]), ["not_text", "no_transcript"]),
    "no UTF-8": (
        pa.StringArray.from_buffers(2, pa.py_buffer(struct.pack("<3i", 0, 1, 2)), pa.py_buffer(b"a\xff")),
        [None, "malformed_row"],
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_cell_of_an_odd_type_is_its_rows(tmp_path: Path, kind: str) -> None:
    text, reasons = ODD[kind]
    pq.write_table(pa.table({"audio": pa.array([b"x"] * 2), "text": text}), tmp_path / "a.parquet")
    assert [getattr(row, "reason", None) for row in read(str(tmp_path / "a.parquet"))] == reasons


def test_columns_that_no_table_should_have_are_one_line(tmp_path: Path) -> None:
    deep = pa.string()
    for _ in range(150):
        deep = pa.struct([("a", deep)])
    clips, texts = pa.array([b"x"] * 2), pa.array(["a", "b"])
    for number, table in enumerate(
        [
            pa.table({"audio": [[1, 2]] * 2, "text": texts}),
            pa.table({"audio": [{"bytes": [1, 2]}] * 2, "text": texts}),
            pa.table({"audio": clips, "text": texts, "deep": pa.nulls(2, deep)}),
            pa.Table.from_arrays([clips, texts, texts], names=["audio", "text", "text"]),
            pa.Table.from_arrays([clips, clips, texts], names=["audio", "audio", "text"]),
        ]
    ):
        pq.write_table(table, tmp_path / f"{number}.parquet")
        assert f"{number}.parquet" in message(str(tmp_path / f"{number}.parquet"))
    pq.write_table(pa.table({"audio": [{"bytes": b"x", "path": 5}] * 2, "text": texts}), tmp_path / "x.parquet")
    assert len(good(read(str(tmp_path / "x.parquet")))) == 2
    pq.write_table(pa.table({"audio": [{"bytes": None, "path": "a.wav"}] * 2, "text": texts}), tmp_path / "y.parquet")
    assert [row.audio for row in good(read(str(tmp_path / "y.parquet")))] == [f"{tmp_path}/a.wav"] * 2


@pytest.mark.medium
def test_a_broken_file_is_one_line_or_rows(tmp_path: Path) -> None:
    table = pa.table({"audio": [b"x" * 500] * 20, "text": [f"row {n}" for n in range(20)], "n": range(20)})
    pq.write_table(table, tmp_path / "a.parquet")
    whole, chance = (tmp_path / "a.parquet").read_bytes(), random.Random(1)
    for _ in range(60):
        broken = bytearray(whole)
        for at in (chance.randrange(4, len(whole) - 8) for _ in range(3)):
            broken[at] = chance.randrange(256)
        (tmp_path / "a.parquet").write_bytes(broken)
        with contextlib.suppress(UserError):
            read(str(tmp_path / "a.parquet"))


@pytest.mark.medium
def test_forty_columns_of_one_long_text_took_all_memory(tmp_path: Path) -> None:
    """Each column had room for itself: 40 of 400 KB in 1000 rows were 16 GB of a file of 8 KB."""
    columns = {f"c{n}": often("x" * 400_000, 1000) for n in range(40)}
    table = pa.table({"audio": [b"x"] * 1000, "text": ["a"] * 1000} | columns)
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", store_schema=False)
    before = pa.default_memory_pool().max_memory()
    assert "its texts unpack to over" in message(str(tmp_path / "a.parquet"))
    assert pa.default_memory_pool().max_memory() <= max(before, 300 << 20)


def test_a_footer_that_lies_of_its_pages_took_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(bomb(tmp_path, pa.array([b"x"] * 3), pa.array(["x" * 9_000_000, "a", "b"]), use_dictionary=False))
    size = pq.ParquetFile(source).metadata.row_group(0).column(1).total_uncompressed_size
    told, whole = _varint(size), source.read_bytes()
    lie = bytes([0x80 | 100, *[0x80] * (len(told) - 2), 0])
    at = whole.rindex(told)
    source.write_bytes(whole[:at] + lie + whole[at + len(told) :])
    assert pq.ParquetFile(source).metadata.row_group(0).column(1).total_uncompressed_size < 100
    monkeypatch.setattr(row_groups, "OPEN_BYTES", 1 << 20)
    assert "unpack to over 1,048,576 bytes at a time" in message(str(source))


def _varint(number: int) -> bytes:
    number, found = number << 1, bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@pytest.mark.medium
def test_lists_that_name_one_text_or_nothing_very_often_took_all_memory(tmp_path: Path) -> None:
    """One row of 20,000 segments with one text of 100 KB took 6 GB; one of 30 million empty ones a gigabyte."""
    for number, (entries, texts) in enumerate([(3000, pa.array(["x" * 100_000] * 3000)), (2_000_000, None)]):
        texts = pa.nulls(entries, pa.string()) if texts is None else texts
        lists = pa.ListArray.from_arrays([0, entries], pa.StructArray.from_arrays([texts], names=["text"]))
        table = pa.table({"audio": [b"x"], "text": ["a"], "segments": lists})
        pq.write_table(table, tmp_path / f"{number}.parquet", compression="zstd", store_schema=False)
        assert ("at a time", "lists of 2,000,000 entries")[number] in message(str(tmp_path / f"{number}.parquet"))
