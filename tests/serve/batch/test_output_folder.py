from __future__ import annotations

import contextlib
import csv
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from asr.errors import DataError, UserError
from asr.inference.recording import Recording, Window, join
from asr.io import storage
from asr.sound import SoundReport
from asr.transcript import Segment, Transcript, Word
from serve.batch.inputs import Input
from serve.batch.output_folder import FAILURES, RECORD, Folder, Format, Settings, document

SETTINGS = Settings("base", {}, "auto", "it", "transcribe", "", False, False)
RECORDING = join(
    [Window(16_000, 64_000)],
    [
        Transcript(
            "Ciao a tutti", (1,), "it", (Segment(0.0, 2.0, "Ciao a tutti", (1,)),), (Word(0.0, 0.5, " Ciao", 0.9),)
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
            ["input", "reason", "detail", "kind"],
            ["/audio/one.mp3", "corrupt", 'said "no",\nand stopped', "failure"],
        ]


def test_the_name_of_a_file_in_the_table_of_failures_was_a_terminal_s_command(tmp_path: Path) -> None:
    names = ["\x1b[31mred.flac", "cr\r.flac"]
    folder = opened(str(tmp_path), *names)
    folder.write_failures([(one, DataError("corrupt")) for one in inputs(*names)])
    text = (tmp_path / FAILURES).read_bytes()
    assert b"\x1b" not in text and b"\r" not in text
    assert [row[0] for row in table(tmp_path)] == [r"/audio/\x1b[31mred.flac", r"/audio/cr\x0d.flac"]
    assert "/audio/\x1b[31mred.flac" in json.loads((tmp_path / RECORD).read_text())["transcripts"]


def table(folder: Path) -> list[list[str]]:
    with open(folder / FAILURES, newline="") as file:
        return list(csv.reader(file))[1:]


def warned(*warnings: str, damaged_s: float = 0.0) -> Recording:
    return replace(RECORDING, sound=SoundReport(80_000, damaged_s=damaged_s, warnings=warnings))


def test_a_warning_is_a_row_of_its_own_kind_and_is_there_before_its_transcript(tmp_path: Path) -> None:
    one, two, three = inputs("one.mp3", "two.mp3", "three.mp3")
    folder = opened(str(tmp_path), "one.mp3", "two.mp3", "three.mp3", formats=(Format.JSON,))
    assert folder.write(one, warned("silence from 1 to 2 s", "track 1 was taken", damaged_s=1.0))
    damaged = [one.address, "damaged", "silence from 1 to 2 s; track 1 was taken", "warning"]
    assert table(tmp_path) == [damaged]  # of a run that is killed now, nothing is lost
    body = json.loads((tmp_path / "one.json").read_text())
    assert (body["warnings"], body["audio"]["damaged_s"]) == (["silence from 1 to 2 s", "track 1 was taken"], 1.0)
    assert folder.write(two, warned("track 1 was taken")) and not folder.write(three, warned())
    folder.write_failures([])
    assert table(tmp_path) == [damaged, [two.address, "noted", "track 1 was taken", "warning"]]


def test_a_warning_outlives_the_runs_that_go_on_and_is_written_once(tmp_path: Path) -> None:
    one, two = inputs("one.mp3", "two.mp3")
    opened(str(tmp_path), "one.mp3", "two.mp3").write(one, warned("silence"))
    row = [one.address, "noted", "silence", "warning"]
    for _ in range(2):
        again = opened(str(tmp_path), "one.mp3", "two.mp3")
        again.write_failures([(two, DataError("corrupt"))])
        assert table(tmp_path) == [[two.address, "corrupt", "", "failure"], row]
    last = opened(str(tmp_path), "two.mp3")  # the other one is not even asked for
    last.write(two, warned("silence"))
    last.write_failures([])
    assert table(tmp_path) == [row, [two.address, *row[1:]]]


def test_a_transcript_that_is_made_anew_has_its_own_warnings(tmp_path: Path) -> None:
    one, two = inputs("one.mp3", "two.mp3")
    folder = opened(str(tmp_path), "one.mp3", "two.mp3")
    for each in (one, two):
        folder.write(each, warned("silence"))
    folder.write_failures([])
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    folder = opened(str(tmp_path), "one.mp3", "two.mp3")
    folder.write(one, warned())
    folder.write_failures([(two, DataError("corrupt"))])
    assert table(tmp_path) == [[two.address, "corrupt", "", "failure"]]
    Folder(str(tmp_path), SETTINGS, [Format.TXT]).open([one], overwrite=True)


@pytest.mark.parametrize("count", [5, 40])
def test_a_table_of_many_warnings_is_whole_in_the_end(tmp_path: Path, count: int) -> None:
    names = [f"{number}.mp3" for number in range(count)]
    folder = opened(str(tmp_path), *names)
    for done, one in enumerate(inputs(*names), start=1):
        folder.write(one, warned("silence"))
        assert len(table(tmp_path)) >= done * 8 // 9
    folder.write_failures([])
    assert [row[0] for row in table(tmp_path)] == [one.address for one in inputs(*names)]


def test_a_folder_that_was_written_before_there_was_a_choice_is_gone_on_with(tmp_path: Path) -> None:
    opened(str(tmp_path), "one.mp3").write(inputs("one.mp3")[0], RECORDING)
    record = json.loads((tmp_path / RECORD).read_text())
    del record["settings"]["track"], record["settings"]["channel"]
    (tmp_path / RECORD).write_text(json.dumps(record))
    (tmp_path / FAILURES).write_text("input,reason,detail\n/audio/two.mp3,corrupt,\n")
    assert opened(str(tmp_path), "one.mp3").is_done(inputs("one.mp3")[0])
    with pytest.raises(UserError, match="made with channel=auto"):
        opened(str(tmp_path), "one.mp3", channel="left")


@pytest.mark.medium
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


HOSTILE = ["/etc/cron.d/x", "../x", "deep/../../x", "a//b", "./x", "..", "", "\0", "s3://bucket/x", 7, None, ["x"]]


@pytest.mark.parametrize("stem", HOSTILE)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_record_that_names_files_elsewhere_wrote_and_removed_them(
    tmp_path: Path, stem: object, overwrite: bool
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "x.txt").write_text("mine")
    (out / RECORD).write_text(json.dumps({"settings": asdict(SETTINGS), "transcripts": {"/audio/a.wav": stem}}))
    with pytest.raises(UserError, match="outside of the folder"):
        Folder(str(out), SETTINGS, [Format.TXT]).open(inputs("a.wav"), overwrite)
    assert files(tmp_path) == {"x.txt", f"out/{RECORD}"}
    assert (tmp_path / "x.txt").read_text() == "mine"


@pytest.mark.parametrize("stems", [{"/a": "x", "/b": "x"}, {"/a": "transcripts"}])
def test_a_record_that_gives_one_name_to_two(tmp_path: Path, stems: dict[str, str]) -> None:
    (tmp_path / RECORD).write_text(json.dumps({"settings": asdict(SETTINGS), "transcripts": stems}))
    with pytest.raises(UserError, match="one name"):
        Folder(str(tmp_path), SETTINGS, [Format.TXT]).open(inputs("a.wav"))


def test_a_folder_in_it_that_is_a_link_leads_nothing_out(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for folder in (out, elsewhere):
        folder.mkdir()
    (elsewhere / "one.txt").write_text("mine")
    (out / "deep").symlink_to(elsewhere)
    (out / RECORD).write_text(json.dumps({"settings": asdict(SETTINGS), "transcripts": {"/audio/x": "deep/one"}}))
    with pytest.raises(UserError, match="leads out of"):
        Folder(str(out), SETTINGS, [Format.TXT]).open(inputs("a.wav"), overwrite=True)
    (out / RECORD).unlink()
    for name in ("deep/two.wav", "deep/new/three.wav"):
        with pytest.raises(UserError, match="leads out of"):
            opened(str(out), name).write(inputs(name)[0], RECORDING)
    assert files(elsewhere) == {"one.txt"}


def test_a_file_that_is_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "mine").write_text("mine")
    for name in ("a.txt", FAILURES):
        (out / name).symlink_to(tmp_path / "mine")
    (out / RECORD).write_text(json.dumps({"settings": asdict(SETTINGS), "transcripts": {"/audio/a.wav": "a"}}))
    folder = opened(str(out), "a.wav")
    folder.write(inputs("a.wav")[0], RECORDING)
    folder.write_failures([])
    assert (tmp_path / "mine").read_text() == "mine"
    assert (out / "a.txt").read_text() == "Ciao a tutti\n"
    (out / "a.txt").unlink()
    (out / "a.txt").symlink_to(tmp_path / "mine")
    Folder(str(out), SETTINGS, [Format.TXT]).open(inputs("a.wav"), overwrite=True)
    assert not (out / "a.txt").exists()
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize("table", ["kind\nwarning\n", "input,reason,detail,kind\n" + "x" * 200_000 + ",,,warning\n"])
def test_a_table_that_we_have_not_written_ends_in_no_traceback(tmp_path: Path, table: str) -> None:
    opened(str(tmp_path), "a.wav").write(inputs("a.wav")[0], RECORDING)
    (tmp_path / FAILURES).write_text(table)
    with contextlib.suppress(UserError):
        opened(str(tmp_path), "a.wav").write_failures([])


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x", "'=1"]


def test_a_formula_in_a_file_name_or_fault_is_text_in_the_table_and_is_read_back(tmp_path: Path) -> None:
    names = [f"{formula}.wav".replace("/", "") for formula in FORMULAS]
    found = [Input(name, name) for name in names]
    folder = Folder(str(tmp_path), SETTINGS, [Format.TXT])
    folder.open(found)
    for one, formula in zip(found, FORMULAS, strict=True):
        sound = SoundReport(80_000, damaged_s=1.0, warnings=(formula,))
        folder.write(one, replace(RECORDING, sound=sound))
    folder.write_failures([(Input("=evil.wav", "x"), DataError("not_audio", "=1+1"))])
    with open(tmp_path / FAILURES, newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == len(FORMULAS) + 1
    assert [cell for row in rows for cell in row if cell[:1] in set("=+-@\t\r\n＝＋－＠")] == []
    again = Folder(str(tmp_path), SETTINGS, [Format.TXT])
    again.open(found)
    assert set(again._warnings) == set(names)


@pytest.mark.medium
def test_another_run_that_takes_an_address_is_noticed(s3: str) -> None:
    """A bucket has no locks: the first run mixed its transcripts with those of the second."""
    place = storage.join(s3, f"taken-{os.getpid()}")
    first = opened(place, "a.wav")
    second = Folder(place, replace(SETTINGS, model="small"), [Format.TXT])
    second.open(inputs("b.wav"), overwrite=True)
    second.write(inputs("b.wav")[0], RECORDING)
    with pytest.raises(UserError, match="another transcribe writes there"):
        first.write(inputs("a.wav")[0], RECORDING)
    assert [entry.name for entry in storage.list_files(place)] == ["b.txt", RECORD]
