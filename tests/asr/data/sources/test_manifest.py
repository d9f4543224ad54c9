from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.audio.decode import decode
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import DataError
from asr.io.storage import join
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import assert_same_speech, message, read, write_audio


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.medium
def test_round_trip(tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str]) -> None:
    names = write_audio(tmp_path / "set/audio", clips, "wav")
    lines = [
        {"audio_filepath": f"audio/{name}", "text": c.text, "duration": c.duration_s, "lang": "English", "snr": 9}
        for name, c in zip(names, clips, strict=True)
    ]
    write(tmp_path / "set", lines)
    found = read(join(place(tmp_path / "set"), "mine.jsonl"))
    assert_same_speech(found, clips)
    first = found[0]
    assert isinstance(first, Utterance)
    assert (first.id, first.duration_s, first.language, first.meta) == (
        f"audio/{names[0]}",
        clips[0].duration_s,
        "en",
        {"snr": 9},
    )


@pytest.mark.medium
def test_what_we_write_ourselves(tmp_path: Path, clips: list[Utterance]) -> None:
    rows = [
        Utterance("a", str(tmp_path / "a.wav"), "uno", 1.5, "it", "Anna", meta={"page": 3}),
        Utterance("b", "/b.wav", "due", 2.0, "it", start_s=1.0, end_s=3.0),
    ]
    write_manifest(tmp_path / "m.jsonl", rows)
    assert read(str(tmp_path / "m.jsonl"), audio_roots=["/"]) == rows
    assert read_manifest(tmp_path / "m.jsonl", audio_roots=["/"]) == rows


@pytest.mark.medium
def test_strict_reader_over_s3(tmp_path: Path, clips: list[Utterance], s3_put: Callable[[Path], str]) -> None:
    write(tmp_path / "set", [{"audio_filepath": "a.wav", "text": "uno"}])
    address = s3_put(tmp_path / "set")
    assert read_manifest(join(address, "mine.jsonl")) == [Utterance("a.wav", join(address, "a.wav"), "uno")]


def test_foreign_names_and_language_of_all(tmp_path: Path) -> None:
    path = write(tmp_path, [{"ref": "x", "clip_file": "a.wav", "said": "ciao", "language": "Klingon"}])
    columns = {"id": "ref", "audio": "clip_file", "text": "said"}
    assert read(str(path), columns=columns, language="Italian") == [
        Utterance("x", str(tmp_path / "a.wav"), "ciao", language="it")
    ]
    assert message(str(path), columns={"text": "sayd"}).endswith("(did you mean 'said'?)")
    assert "no column for audio: its columns are ref, clip_file, said, language" in message(str(path))


def test_a_broken_line_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('[\n{"audio_filepath": "a.wav", "text": "uno"}\n{"audio_filepath": "b.w', encoding="utf-8")
    first, second, third = read(str(path))
    assert isinstance(second, Utterance)
    assert isinstance(first, Quarantined)
    assert isinstance(third, Quarantined)
    assert (third.id, third.reason) == ("line 3", "malformed_row")
    assert f"{path}:3: not JSON" in third.detail


def test_a_file_without_a_good_line_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("hello\nworld\n")
    assert "m.jsonl:1: not JSON" in message(str(path))
    path.write_text("\n", encoding="utf-8")
    assert "no rows" in message(str(path))


def test_a_first_line_without_the_keys_refused_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"foo": 1}\n{"audio": "a.wav", "text": "uno"}\n')
    first, second = read(str(path))
    assert isinstance(first, Quarantined) and (first.id, first.reason) == ("line 1", "missing_audio")
    assert isinstance(second, Utterance) and second.text == "uno"
    path.write_text('{"foo": 1}\n{"clip_file": "a.wav", "text": "uno"}\n')
    assert "no column for audio: its columns are clip_file, text (name it" in message(str(path))
    assert isinstance(read(str(path), columns={"audio": "clip_file"})[1], Utterance)


def test_a_key_without_a_name_was_every_field(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"": "x", "audio": "a.wav", "text": "uno"}\n')
    (row,) = read(str(tmp_path / "a.jsonl"))
    assert isinstance(row, Utterance) and (row.start_s, row.end_s, row.speaker) == (0.0, None, None)


HOSTILE = {
    "deep": ('{"audio": "a.wav", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "malformed_row"),
    "deep objects": ('{"a":' * 50_000 + "1" + "}" * 50_000, "malformed_row"),
    "many digits": ('{"audio": "a.wav", "x": ' + "9" * 5000 + "}", "malformed_row"),
    "too large a number": ('{"audio": "a.wav", "text": "x", "duration": ' + "9" * 400 + "}", "bad_number"),
    "an infinite track": ('{"audio": "a.wav", "text": "x", "audio_track": 1e999}', "bad_channel"),
    "half a character": ('{"audio": "a\\ud800.wav", "text": "x"}', "malformed_row"),
    "a name of 100 KB": ('{"audio": "' + "a" * 100_000 + '", "text": "x"}', "malformed_row"),
    "a transcript of 2 MB": ('{"audio": "a.wav", "text": "' + "a " * (1 << 20) + '"}', "malformed_row"),
    "deep segments": ('{"audio": "a.wav", "segments": "' + "[" * 100_000 + '"}', "bad_segments"),
    "segments of no time": ('{"audio": "a.wav", "segments": [{"start": NaN, "end": 1, "text": "x"}]}', "bad_segments"),
    "segments behind all time": (
        '{"audio": "a.wav", "segments": [{"start": ' + "9" * 400 + ', "end": 1, "text": "x"}]}',
        "bad_segments",
    ),
    "no scheme": ('{"audio": "://x/a.wav", "text": "x"}', "address_not_allowed"),
    **{
        scheme: (f'{{"audio": "{scheme}://127.0.0.1:9/a.wav", "text": "x"}}', "address_not_allowed")
        for scheme in ("ftp", "webhdfs", "github", "dir", "http", "file", "S3", "zip", "simplecache", "memory")
    },
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_row_that_ended_the_run_with_a_traceback(tmp_path: Path, fault: str) -> None:
    line, reason = HOSTILE[fault]
    good = '{"audio": "a.wav", "text": "said"}'
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8")
    before, row, after = read(str(tmp_path / "a.jsonl"))
    assert isinstance(row, Quarantined)
    assert row.reason == reason
    assert len(row.id) + len(row.detail) < 3000
    assert isinstance(before, Utterance)
    assert before == after


def test_a_nul_in_a_name_is_that_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"audio": "a\\u0000.wav", "text": "said"}\n', encoding="utf-8")
    (row,) = read(str(tmp_path / "a.jsonl"))
    assert isinstance(row, Utterance)
    with pytest.raises(DataError, match="missing_file"):
        decode(row.audio)
