"""What goes into a source comes out as a row or lies in quarantine: nothing is lost, nothing is there twice."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asr.data.sources.prompts import utterances
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import read

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
SAID = st.text(st.sampled_from('ab "",;\t|\x00é\u2028.\''), max_size=10)
STEMS = st.sampled_from(["a", "b", "talk_1", "talk_1.02", "talk_1.30", "c.d.e", "x/a", "x/talk_1.02"])


def ids(found: Sequence[Utterance | Quarantined]) -> list[str]:
    return [row.id for row in found]


@pytest.mark.medium
@FEW
@given(
    said=st.lists(SAID, min_size=1, max_size=10),
    name=st.sampled_from(["a.csv", "a.tsv"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    blank=st.booleans(),
)
def test_tables(said: list[str], name: str, end: str, mark: bool, blank: bool) -> None:
    delimiter = "," if name == "a.csv" else "\t"
    lines = [f"path{delimiter}text", *(f"{n}.wav{delimiter}{text}" for n, text in enumerate(said))]
    text = (end * (2 if blank else 1)).join(lines)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
        found = read(f"{folder}/{name}")
    assert len(found) == len(said)
    whole = [row.id for row in found if isinstance(row, Utterance)]
    assert whole == [f"{n}.wav" for n, row in enumerate(found) if isinstance(row, Utterance)]


@pytest.mark.medium
@FEW
@given(st.lists(st.tuples(SAID, st.booleans()), min_size=1, max_size=10))
def test_common_voice(said: list[tuple[str, bool]]) -> None:
    """Rows that lack their last cell, or have one too many where a tab is in the sentence."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{n}.mp3\t{text}" + ("\tit" if whole else "") for n, (text, whole) in enumerate(said)]
        Path(folder, "train.tsv").write_text("path\tsentence\tlocale\n" + "\n".join(lines), newline="\n")
        Path(folder, "clip_durations.tsv").write_text("clip\tduration[ms]\n0.mp3\tx\n1.mp3\t5\n2.mp3\n")
        assert len(read(folder, split="train", format="common_voice")) == len(said)


@pytest.mark.medium
@FEW
@given(
    st.lists(
        st.sampled_from(
            ['{"audio": "a.wav", "text": "x"}', '{"audio": "b.w', "[]", '{"text": "x"}', '{"audio": 3}', "1"]
        )
    )
)
def test_manifests(lines: list[str]) -> None:
    text = "\n\n".join(['{"audio": "first.wav"}', *lines])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.jsonl").write_text(text, encoding="utf-8")
        found = read(f"{folder}/a.jsonl")
    assert len(found) == len(lines) + 1
    broken = [row for row in found if isinstance(row, Quarantined) and row.reason == "malformed_row"]
    assert len(broken) == sum(not line.startswith("{") or not line.endswith("}") for line in lines)


@pytest.mark.medium
@FEW
@given(st.sets(st.tuples(STEMS, st.sampled_from(["wav", "MKV", "txt", "dss", "json", "lab"]))))
def test_audiofolders(files: set[tuple[str, str]]) -> None:
    names = {f"{stem}.{suffix}" for stem, suffix in files} | {"first.wav", "first.txt"}
    litter = {".DS_Store", "._first.wav", "__MACOSX/._first.txt", "README.md", "LICENSE", "Thumbs.db"}
    with tempfile.TemporaryDirectory() as folder:
        write(folder, names | litter)
        found = read(folder, format="audiofolder")
    stems = {name.rpartition(".")[0] for name in names if name.endswith((".wav", ".MKV"))}
    texts = {name.rpartition(".")[0] for name in names if name.endswith(".txt")}
    labels = {name.rpartition(".")[0] for name in names if name.endswith(".lab")}
    if not (labels & stems) - texts:  # documents
        labels = set()
    expected = {name for name in names if name.endswith((".wav", ".MKV"))}
    expected |= {f"{stem}.txt" for stem in texts - stems}
    expected |= {f"{stem}.lab" for stem in labels - stems - texts}
    texts |= labels
    expected |= {name for name in names if name.endswith(".dss") and name.rpartition(".")[0] not in texts | stems}
    assert sorted(ids(found)) == sorted(expected)
    good = {row.id for row in found if isinstance(row, Utterance)}
    assert good == {name for name in expected if name.rpartition(".")[0] in stems & texts}


def write(folder: str, names: set[str]) -> None:
    for name in names:
        Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, name).write_text("said")


@pytest.mark.medium
@FEW
@given(st.lists(st.tuples(STEMS, st.sampled_from(["wav", "txt", "json"])), max_size=14))
@example([("talk_1", "txt"), ("talk_1.02", "wav"), ("talk_1.30", "wav")])  # one row, which names both
def test_tars(files: list[tuple[str, str]]) -> None:
    """In any order, and some twice: each file is in one row, by its id, and no row of two recordings is good."""
    names = ["first.wav", "first.txt", *(f"{stem}.{suffix}" for stem, suffix in files)]
    with tempfile.TemporaryDirectory() as folder:
        pack(
            Path(folder, "a.tar"), ["._first.wav", "README.md", *names, "__MACOSX/._first.wav", "PaxHeaders/first.wav"]
        )
        found = read(f"{folder}/a.tar")
    rows = Counter(ids(found))
    for name, count in Counter(names).items():
        owners = [id for id in rows if name.startswith(f"{id}.")]
        assert sum(rows[id] for id in owners) >= count, name
    audio = [row.audio for row in found if isinstance(row, Utterance)]
    assert len(set(audio)) == len(audio)
    lost = sum(name.endswith(".wav") for name in names) - len(audio)
    unusable = tuple(f"{row.id}." for row in found if isinstance(row, Quarantined))
    assert 0 <= lost <= sum(name.startswith(unusable) and name.endswith(".wav") for name in names)


def pack(path: Path, names: Sequence[str]) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            data = b'{"lang": "it"}' if name.endswith(".json") else b"said"
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


CELLS = st.fixed_dictionaries(
    {
        "audio": st.one_of(
            st.none(), st.sampled_from([{"bytes": b"x", "path": None}, {"bytes": None, "path": "a.wav"}])
        ),
        "text": st.one_of(st.none(), SAID),
        "lang": st.sampled_from([None, "it", "xx"]),
        "duration": st.sampled_from([None, 1.0, -1.0, float("nan")]),
    }
)
SCHEMA = pa.schema(
    {"audio": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "text": pa.string(), "lang": pa.string()}
).append(pa.field("duration", pa.float64()))


@pytest.mark.medium
@FEW
@given(st.lists(CELLS, max_size=8), st.integers(1, 3))
def test_arrow_tables(cells: list[dict[str, Any]], group: int) -> None:
    """Parquet in row groups, and the stream of record batches that ``datasets`` saves."""
    table = pa.Table.from_pylist(cells, SCHEMA)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/a.parquet", row_group_size=group)
        saved = Path(folder, "saved")
        saved.mkdir()
        with pa.OSFile(str(saved / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
            writer.write_table(table, max_chunksize=group)
        (saved / "state.json").write_text(json.dumps({"_split": "x", "_data_files": [{"filename": "data.arrow"}]}))
        for source in (f"{folder}/a.parquet", str(saved)):
            found = read(source)
            assert len(found) == len(set(ids(found))) == len(cells)


@pytest.mark.medium
@FEW
@given(
    st.lists(st.sampled_from(["a", "b", "letters/O", "gone"])), st.sets(st.sampled_from(["a", "b", "c", "letters/o"]))
)
def test_prompts(lines: list[str], clips: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "usr/share/doc/asterisk-core-sounds-it/core-sounds-it.txt.gz")
        listed.parent.mkdir(parents=True)
        listed.write_bytes(gzip.compress("".join(f"{name}: detto\n" for name in lines).encode()))
        write(f"{folder}/usr/share/asterisk/sounds/it_IT", {f"{name}.g722" for name in clips} | {"letters/x.txt"})
        good, bad = utterances("it", Path(folder))
    heard = {name if name in clips else name.lower() for name in lines}
    assert len(good) + len(bad) == len(lines) + len(clips - heard)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "metadata"])
def test_a_clip_that_is_written_in_two_ways_was_two_clips(tmp_path: Path, kind: str) -> None:
    ways = ["./a.wav", "a.wav", "x/..//a.wav", "../" + tmp_path.name + "/b.wav"]
    if kind == "jsonl":
        text = "\n".join(json.dumps({"audio_filepath": way, "text": "x"}) for way in ways)
    else:
        mark = "\t" if kind == "tsv" else ","
        text = "\n".join([f"path{mark}text", *(f"{way}{mark}x" for way in ways)])
    name = "metadata.csv" if kind == "metadata" else f"a.{kind}"
    (tmp_path / name).write_text(text)
    found = read(str(tmp_path if kind == "metadata" else tmp_path / name))
    assert ids(found) == ["a.wav", "a.wav", "a.wav", f"../{tmp_path.name}/b.wav"]
    assert [row.audio for row in found if isinstance(row, Utterance)][:3] == [str(tmp_path / "a.wav")] * 3


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["jsonl", "metadata.jsonl", "metadata.parquet", "parquet", "hf", "tar", "pairs"])
def test_what_nobody_has_transcribed_was_taken_for_silence(tmp_path: Path, kind: str) -> None:
    """An empty text says that nobody speaks; null, a key or a file that is not there say that nobody has written it."""
    cells: list[dict[str, str | None]] = [{"text": "x"}, {"text": ""}, {"text": None}, {}]
    rows = [{"audio": f"{n}.wav", **cell} for n, cell in enumerate(cells)]
    place = tmp_path / "a.jsonl" if kind == "jsonl" else tmp_path
    for row in rows:
        (tmp_path / str(row["audio"])).write_bytes(b"x")
    if kind.endswith("jsonl"):
        (tmp_path / ("a.jsonl" if kind == "jsonl" else kind)).write_text("\n".join(map(json.dumps, rows)))
    elif kind.endswith("parquet"):
        place = tmp_path / "a.parquet" if kind == "parquet" else tmp_path
        table = pa.Table.from_pylist(rows[:3], pa.schema({"audio": pa.string(), "text": pa.string()}))
        pq.write_table(table, tmp_path / ("a.parquet" if kind == "parquet" else kind))
    elif kind == "hf":
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
        place = tmp_path / "saved"
    else:
        for n, cell in enumerate(cells):
            if cell.get("text") is not None:
                (tmp_path / f"{n}.txt").write_text(str(cell["text"]))
            elif kind == "tar":
                (tmp_path / f"{n}.json").write_text(json.dumps(cell))
        if kind == "tar":
            place = tmp_path / "a.tar"
            with tarfile.open(place, "w") as tar:
                for path in sorted(tmp_path.glob("[0-9].*")):
                    tar.add(path, path.name)
    found = read(str(place), format="audiofolder" if place == tmp_path else "auto")
    assert [row.text for row in found if isinstance(row, Utterance)] == ["x", ""]
    lost = [row.reason for row in found if isinstance(row, Quarantined)]
    assert lost == ["no_transcript"] * (1 if kind.endswith("parquet") else 2)


def test_an_empty_cell_of_a_table_is_an_empty_text_and_segments_are_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,text\na.wav,\nb.wav,x\n")
    assert [row.text for row in read(str(tmp_path / "a.csv")) if isinstance(row, Utterance)] == ["", "x"]
    segments = [{"start": 0.0, "end": 1.0, "text": "x"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"audio": "a.wav", "segments": segments}))
    (row,) = read(str(tmp_path / "a.jsonl"))
    assert isinstance(row, Utterance) and row.meta["segments"] == segments


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-16-le"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_an_export_in_another_encoding_is_told_so(tmp_path: Path, name: str, encoding: str) -> None:
    text = '{"audio": "a.wav", "text": "perché"}\n' if name == "a.jsonl" else "path,text\na.wav,perché\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(UserError) as caught:
        read(str(tmp_path / name))
    assert name in caught.value.message
    assert "UTF-8" in caught.value.hint


def test_utf_16_without_a_mark_and_an_accent_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("path,text\na.wav,uno\n".encode("utf-16-le"))
    with pytest.raises(UserError, match="looks like UTF-16"):
        read(str(tmp_path / "a.csv"))
