from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from asr import storage
from asr.clip import Spoken, Transcript, Word
from asr.errors import DataError, UserError
from asr.recording import Recording, Window, join
from serve.bulk.folder import FAILURES, RECORD, Folder, Format, Settings, document
from serve.bulk.inputs import Input

SETTINGS = Settings("base", {}, "auto", "it", "transcribe", "", False, False)
RECORDING = join(
    [Window(16_000, 64_000)],
    [
        Transcript(
            "Ciao a tutti", (1,), "it", (Spoken(0.0, 2.0, "Ciao a tutti", (1,)),), (Word(0.0, 0.5, " Ciao", 0.9),)
        )
    ],
    5.0,
)
EMPTY = Recording(5.0, None, (), ())


def inputs(*names: str) -> list[Input]:
    return [Input(f"/audio/{name}", name) for name in names]


def opened(place: str, *names: str, formats: tuple[Format, ...] = (Format.TXT,), **settings: object) -> Folder:
    folder = Folder(place, replace(SETTINGS, **settings), formats)  # type: ignore[arg-type]
    folder.open(inputs(*names))
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_each_format_says_what_the_endpoint_answers() -> None:
    texts = {form: document(RECORDING, form, "transcribe", True) for form in Format}
    assert texts[Format.TXT] == "Ciao a tutti\n"
    assert texts[Format.SRT] == "1\n00:00:01,000 --> 00:00:03,000\nCiao a tutti\n\n"
    assert texts[Format.VTT].startswith("WEBVTT\n\n00:00:01.000")
    body = json.loads(texts[Format.JSON])
    assert (body["language"], body["text"], len(body["segments"])) == ("italian", "Ciao a tutti", 1)
    assert body["words"] == [{"word": "Ciao", "start": 1.0, "end": 1.5}]
    assert "words" not in json.loads(document(RECORDING, Format.JSON, "transcribe", False))


def test_an_input_is_done_when_all_formats_are_there(tmp_path: Path) -> None:
    names = ("deep/one.mp3", "two.wav")
    first = opened(str(tmp_path), *names, formats=(Format.SRT,), timestamps=True)
    assert not any(map(first.is_done, inputs(*names)))
    first.write(inputs(*names)[0], RECORDING)
    assert files(tmp_path) == {RECORD, "deep/one.srt"}
    second = opened(str(tmp_path), *names, formats=(Format.SRT,), timestamps=True)
    assert list(map(second.is_done, inputs(*names))) == [True, False]
    third = opened(str(tmp_path), *names, formats=(Format.VTT, Format.SRT), timestamps=True)
    assert not any(map(third.is_done, inputs(*names)))


def test_nobody_takes_anothers_name_and_a_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a person's own notes")
    folder = Folder(str(tmp_path), SETTINGS, [Format.TXT])
    found = [*inputs("a.wav", "a.mp3", "b.wav", "c.wav"), Input("/other/a.wav", "a.wav")]
    assert len(folder.open(found)) == 4
    for one in found:
        folder.write(one, EMPTY)
    assert files(tmp_path) == {RECORD, "a.wav.txt", "a.mp3.txt", "b.txt", "c.txt", "c.wav.txt", "a.wav (2).txt"}
    assert (tmp_path / "c.txt").read_text() == "a person's own notes"
    again = Folder(str(tmp_path), SETTINGS, [Format.TXT])
    more = [*inputs("b.ogg"), *found]
    assert len(again.open(more)) == 1
    assert list(map(again.is_done, more)) == [False, *[True] * 5]


def test_a_recording_cannot_replace_the_record(tmp_path: Path) -> None:
    folder = opened(str(tmp_path), "transcripts.wav", formats=(Format.JSON,), timestamps=True)
    folder.write(inputs("transcripts.wav")[0], RECORDING)
    assert files(tmp_path) == {RECORD, "transcripts.wav.json"}


@pytest.mark.parametrize("other", [{"model": "small"}, {"language": None}, {"prompt": "x"}, {"weights": {"a": "b"}}])
def test_transcripts_made_otherwise_are_not_mixed(tmp_path: Path, other: dict[str, object]) -> None:
    folder = opened(str(tmp_path), "one.mp3")
    opened(str(tmp_path), "one.mp3", **other)  # nothing was written as yet
    folder = opened(str(tmp_path), "one.mp3")
    folder.write(inputs("one.mp3")[0], RECORDING)
    with pytest.raises(UserError, match="--overwrite"):
        opened(str(tmp_path), "one.mp3", **other)


def test_overwrite_removes_what_earlier_runs_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = opened(str(tmp_path), "one.mp3", "two.mp3")
    folder.write(inputs("one.mp3")[0], RECORDING)
    (tmp_path / "mine.txt").write_text("mine")
    other = Folder(str(tmp_path), replace(SETTINGS, model="small"), [Format.TXT])
    assert other.open(inputs("one.mp3"), overwrite=True) == []
    assert files(tmp_path) == {RECORD, "mine.txt"}
    assert not other.is_done(inputs("one.mp3")[0])


def test_a_record_that_is_none_is_a_persons_mistake(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"mine": 1}')
    with pytest.raises(UserError, match=RECORD):
        opened(str(tmp_path), "one.mp3")


def test_what_failed_is_a_table(tmp_path: Path) -> None:
    folder = opened(str(tmp_path), "one.mp3")
    folder.write_failures([(inputs("one.mp3")[0], DataError("corrupt", 'said "no",\nand stopped'))])
    with open(tmp_path / FAILURES, newline="") as file:
        assert list(csv.reader(file)) == [
            ["input", "reason", "detail"],
            ["/audio/one.mp3", "corrupt", 'said "no",\nand stopped'],
        ]


def test_a_bucket_is_a_folder_too(s3: str) -> None:
    place = storage.join(s3, "transcripts")
    folder = opened(place, "deep/one.mp3", "two.mp3")
    folder.write(inputs("deep/one.mp3")[0], RECORDING)
    assert storage.read_text(storage.join(place, "deep", "one.txt")) == "Ciao a tutti\n"
    again = opened(place, "deep/one.mp3", "two.mp3")
    assert list(map(again.is_done, inputs("deep/one.mp3", "two.mp3"))) == [True, False]
    other = Folder(place, replace(SETTINGS, model="small"), [Format.TXT])
    other.open(inputs("deep/one.mp3"), overwrite=True)
    assert not storage.exists(storage.join(place, "deep", "one.txt"))
