from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asr.audio import decode
from asr.errors import DataError
from asr.sources import parquet
from asr.utterance import Quarantined, Utterance
from tests.asr.sources.clips import assert_same_speech, audio, good, message, read, write_audio


def write(path: Path, columns: dict[str, list[Any]], rows_per_group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=rows_per_group)
    return path


def structs(clips: list[Utterance], kind: str) -> list[Any]:
    return [{"bytes": audio(clip, kind), "path": f"{clip.id}.{kind}"} for clip in clips]


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
