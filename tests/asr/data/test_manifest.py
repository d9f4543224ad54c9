from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.manifest import read_manifest, write_manifest, write_quarantine
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance
from tests.manifests import read_quarantine


def manifest(folder: Path, *lines: object) -> Path:
    path = folder / "clips.jsonl"
    text = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nemo_fields(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        {"audio_filepath": "a/1.wav", "text": "Ciao", "duration": 1.5, "lang": "it", "speaker": "Anna", "snr": 12},
        "",
        {"audio_filepath": "/data/long.wav", "offset": 60, "duration": 2.25},
        {"audio_filepath": "s3://bucket/x.flac", "text": None, "id": 7},
    )
    first, second, third = read_manifest(path, audio_roots=["/data", "s3://bucket"])
    assert first == Utterance("a/1.wav", str(tmp_path / "a/1.wav"), "Ciao", 1.5, "it", "Anna", meta={"snr": 12})
    assert second == Utterance("/data/long.wav@60", "/data/long.wav", "", 2.25, start_s=60.0, end_s=62.25)
    assert third == Utterance("7", "s3://bucket/x.flac")


def test_byte_order_mark_windows_line_ends_and_odd_separators(tmp_path: Path) -> None:
    path = tmp_path / "clips.jsonl"
    path.write_bytes('\ufeff{"audio_filepath": "a.wav", "text": "uno\u2028due\x85tre"}\r\n\r\n'.encode())
    assert [row.text for row in read_manifest(path)] == ["uno\u2028due\x85tre"]


def test_the_folder_can_be_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    write_manifest(before / "m.jsonl", [Utterance("1", str(before / "audio/1.flac"), "Ciao")])
    before.rename(after)
    assert read_manifest(after / "m.jsonl")[0].audio == str(after / "audio/1.flac")


def test_missing_and_empty(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "no.jsonl")
    assert "no rows" in message(manifest(tmp_path, "", " "))
    assert "cannot be read" in message(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"audio_filepath": "perch\xe9.wav"}')
    assert "UTF-8" in message(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{'audio_filepath': 'a.wav'}", "not JSON"),
        ("[1, 2]", "list"),
        ({"text": "Ciao"}, "audio_filepath"),
        ({"audio_filepath": ""}, "audio_filepath"),
        ({"audio_filepath": "/etc/passwd"}, "/etc/passwd: outside of"),
        ({"audio_filepath": "gs://b/a.wav?endpoint_override=evil&scheme=http"}, "outside of"),
        ({"audio_filepath": "a.wav", "duration": -1}, "duration"),
        ({"audio_filepath": "a.wav", "duration": "long"}, "duration"),
        ('{"audio_filepath": "a.wav", "offset": NaN}', "offset"),
        ({"audio_filepath": "a.wav", "text": ["Ciao"]}, "text"),
        ('{"audio_filepath": "a.wav", "text": "\\ud800"}', "surrogates not allowed"),
        ('{"audio_filepath": "a.wav", "page": "\\uD800"}', "surrogates not allowed"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: object, fault: str) -> None:
    text = message(manifest(tmp_path, {"audio_filepath": "fine.wav"}, line))
    assert "clips.jsonl:2" in text
    assert fault in text


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    row = {"audio_filepath": "a.wav", "offset": 1.5, "duration": 1}
    text = message(manifest(tmp_path, row, {"audio_filepath": "a.wav"}, row))
    assert "a.wav@1.5" in text
    assert "line 1 and on line 3" in text


def test_what_a_manifest_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [Utterance("1", "/a.wav")])
    for wrong in (Utterance("2", b"RIFF"), Utterance("2", "/a.wav", meta={"text": 1})):
        with pytest.raises(ValueError, match=r"^2: "):
            write_manifest(path, [Utterance("1", "/b.wav"), wrong])
    assert read_manifest(path, audio_roots=["/"]) == [Utterance("1", "/a.wav")]
    assert os.listdir(tmp_path) == ["m.jsonl"]


words = st.text(max_size=20)
milliseconds = st.integers(0, 10**7).map(lambda ms: ms / 1000)
names = st.text("abcàß 1_-", min_size=1, max_size=8).filter(lambda name: name.strip())


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    start, length, stretch = draw(milliseconds), draw(milliseconds), draw(st.booleans())
    folder = draw(st.sampled_from(["FOLDER/", "FOLDER/audio/", "/elsewhere/", "s3://bucket/"]))
    return Utterance(
        id=draw(st.text(min_size=1, max_size=8)),
        audio=folder + draw(names) + ".wav",
        text=draw(words),
        duration_s=length if stretch else draw(st.none() | milliseconds),
        language=draw(st.none() | words),
        speaker=draw(st.none() | words),
        start_s=start if stretch else 0.0,
        end_s=round(start + length, 6) if stretch else None,
        meta=draw(st.dictionaries(st.sampled_from(["snr", "città", "page"]), words | st.integers() | st.none())),
    )


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(utterances(), min_size=1, max_size=8, unique_by=lambda u: u.id))
def test_round_trip(rows: list[Utterance]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        placed = [
            Utterance(
                **{f: getattr(u, f) for f in Utterance.__slots__} | {"audio": str(u.audio).replace("FOLDER", folder)}
            )
            for u in rows
        ]
        path = Path(folder) / "m.jsonl"
        write_manifest(path, placed)
        assert read_manifest(path, audio_roots=["/elsewhere", "s3://bucket"]) == placed


@pytest.mark.medium
@settings(max_examples=30, deadline=None)
@given(st.lists(st.builds(Quarantined, words, words, words), max_size=5))
def test_quarantine_round_trip(rows: list[Quarantined]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sub" / "quarantine.parquet"
        write_quarantine(path, iter(rows))
        assert read_quarantine(path) == rows
