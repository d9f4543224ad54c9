"""The verbs of the train folder, called as the command line calls them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import encode_flac
from asr.errors import UserError
from asr.io.spreadsheet import told
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.scoring.report import write_report
from asr.utterance import Utterance
from tests.asr.disks import fill, small_disk
from tests.manifests import beside, write_beside
from tests.train.sweep.test_record import record as make_record
from train.cli import _show_sweep, evaluate, train
from train.data.cli import inspect, prepare
from train.sweep.record import Report

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"


@pytest.fixture
def prepared(tmp_path: Path, english_clips: list[Utterance], capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder prepared from real clips and one file that is no audio."""
    (tmp_path / "notes.wav").write_text("buy milk")
    rows = [*english_clips[:12], Utterance("notes", str(tmp_path / "notes.wav"), "buy milk")]
    write_beside(tmp_path / "mine.jsonl", rows)
    prepare(str(tmp_path / "mine.jsonl"), tmp_path / "out", ["min_test_clips=4"], as_json=False)
    return tmp_path / "out"


@pytest.mark.slow
def test_evaluate_writes_a_report_a_table_and_the_figures(
    prepared: Path, tiny_en_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    evaluate(tiny_en_name, prepared / "test.jsonl", language="english", out=tmp_path / "ev", as_json=True)
    summary = json.loads(capsys.readouterr().out)
    assert summary["context"] == "full"
    assert 0 <= summary["wer"]["rate"] < 0.5
    assert summary["wer"]["low"] <= summary["wer"]["rate"] <= summary["wer"]["high"]
    assert summary["errors"][0].startswith("of ")
    with (tmp_path / "ev" / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary["utterances"] >= 4
    assert "<html" in (tmp_path / "ev" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "ev" / "evaluation.json").read_text(encoding="utf-8"))["summary"]["wer"]


def test_greedy_decoding_of_a_model_without_n_grams_was_silently_the_usual_one(prepared: Path, small_base: str) -> None:
    with pytest.raises(UserError, match="is no CTC model: it has no n-grams to do without"):
        evaluate(small_base, prepared / "test.jsonl", greedy=True)


@pytest.fixture
def mixed(tmp_path: Path, english_clips: list[Utterance]) -> Path:
    """A manifest of pandas: two good rows, one of silence, one not transcribed, and what can be wrong."""
    (tmp_path / "silence.flac").write_bytes(encode_flac(np.zeros(32_000, dtype=np.float32)))
    (tmp_path / "notes.wav").write_text("buy milk")
    clips = beside(tmp_path, english_clips[:5])
    cells: list[tuple[object, object]] = [(clip.audio, clip.text) for clip in clips[:2]]
    cells += [("silence.flac", ""), ("silence.flac", "ciao"), (clips[2].audio, float("nan"))]
    cells += [("notes.wav", "ciao"), (clips[3].audio, float("nan")), ("gone.wav", "ciao")]
    cells += [(clips[4].audio, None)]
    lines = [json.dumps({"id": f"row {n}", "audio": audio, "text": text}) for n, (audio, text) in enumerate(cells)]
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines))
    return tmp_path / "mixed.jsonl"


def test_evaluate_says_why_rows_are_in_quarantine_and_all_rows_are_somewhere(
    mixed: Path, small_base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(small_base, str(mixed), out=tmp_path / "ev", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["quarantined"] == sum(one["rows"] for one in found["quarantine"]) == 6
    assert {one["reason"]: one["rows"] for one in found["quarantine"]} == {
        "not_text": 2,
        "silent": 1,
        "not_audio": 1,
        "missing_file": 1,
        "no_transcript": 1,
    }
    first = found["quarantine"][0]
    assert (first["example"], first["detail"]) == ("row 4", "the transcript is nan, a float")
    assert found["silence"]["clips"] == 1 and found["utterances"] == 2
    assert found["utterances"] + found["silence"]["clips"] + found["quarantined"] == found["rows"] == 9
    report = (tmp_path / "ev" / "report.html").read_text(encoding="utf-8")
    assert "the transcript is nan, a float" in report
    assert "nan" not in [row.reference for row in Evaluation.load(tmp_path / "ev" / "evaluation.json").results]


def test_evaluate_prints_the_table_for_people(mixed: Path, small_base: str, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(small_base, str(mixed))
    printed = capsys.readouterr().out
    assert "words on silence: " in printed and " of 1 clip without words" in printed
    assert "9 rows: 2 clips scored, 1 without words, 6 in quarantine; " in printed
    assert "not_text" in printed and "row 4: the transcript is nan, a float" in printed


def test_a_half_filled_table_was_evaluated_as_a_set_of_silence_without_a_word(
    mixed: Path, english_clips: list[Utterance], small_base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = mixed.with_suffix(".csv")
    texts = [english_clips[0].text, "", ""]
    lines = [
        f'{clip.audio},"{text}"\n' for clip, text in zip(beside(table.parent, english_clips[:3]), texts, strict=True)
    ]
    table.write_text("path,text\n" + "".join(lines))
    evaluate(small_base, str(table))
    assert "warning: 2 of 3 references are empty, which says that nobody speaks there" in capsys.readouterr().out
    evaluate(small_base, str(table), as_json=True)
    assert len(json.loads(capsys.readouterr().out)["warnings"]) == 1


def test_silence_alone_can_be_evaluated(
    mixed: Path, small_base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed.write_text('{"audio": "silence.flac", "text": ""}')
    evaluate(small_base, str(mixed), out=tmp_path / "ev")
    printed = capsys.readouterr().out
    assert printed.startswith("no error rate: no reference has words\nwords on silence: ")
    assert (tmp_path / "ev" / "table.csv").is_file() and not (tmp_path / "ev" / "report.html").exists()


def test_a_source_of_nothing_but_faults_says_which(mixed: Path, small_base: str) -> None:
    mixed.write_text('{"id": "a", "audio": "silence.flac", "text": NaN}')
    with pytest.raises(
        UserError, match="none of 1 rows can be evaluated, the first: a: not_text: the transcript is nan"
    ):
        evaluate(small_base, str(mixed))


def test_a_full_disk_under_a_report_is_named(prepared: Path, small_base: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        fill(disk)
        with pytest.raises(UserError, match=rf"{disk}/ev.*no space left") as caught:
            evaluate(small_base, prepared / "test.jsonl", out=disk / "ev")
        assert "give the same command again" in caught.value.hint


def test_evaluate_reads_a_table_as_the_hint_says(prepared: Path, small_base: str) -> None:
    row = json.loads((prepared / "test.jsonl").read_text(encoding="utf-8").splitlines()[0])
    (prepared / "t.csv").write_text(f'Datei;Wortlaut\n{row["audio_filepath"]};"{row["text"]}"\n')
    with pytest.raises(UserError, match="--column audio=NAME"):
        evaluate(small_base, prepared / "t.csv")
    evaluate(small_base, prepared / "t.csv", column=["audio=Datei", "text=Wortlaut"], delimiter=";")


def test_a_wrong_language_name_gets_a_suggestion(prepared: Path, small_base: str) -> None:
    with pytest.raises(UserError, match="did you mean 'italian'"):
        evaluate(small_base, prepared / "test.jsonl", language="itallian")


def test_dry_run_prints_each_setting_with_its_origin_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(DEMO, ["lora.rank=4", f"run.folder={tmp_path}"], dry_run=True, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    settings = printed["settings"]
    assert printed["deepspeed"] is None
    assert settings["lora.rank"] == {"value": 4, "from": "command line"}
    assert settings["language"] == {"value": "it", "from": str(DEMO)}
    assert settings["precision"] == {"value": "fp32", "from": "default"}
    assert list(tmp_path.iterdir()) == []


def test_dry_run_for_people_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    train(DEMO, [], dry_run=True)
    printed = capsys.readouterr().out
    assert "optim.learning_rate" in printed and "default" in printed
    assert "DeepSpeed" not in printed


def test_dry_run_prints_what_deepspeed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    train(DEMO, ["parallelism=zero2", "deepspeed={wall_clock_breakdown: true}"], dry_run=True)
    derived = json.loads(capsys.readouterr().out.partition("DeepSpeed, derived from these:")[2])
    assert derived["zero_optimization"]["stage"] == 2
    assert derived["wall_clock_breakdown"] is True


def test_the_trials_of_a_sweep_are_listed_before_any_of_them_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"run.folder={tmp_path}", "data.validation=v.jsonl"]
    varied = ["lora.rank=grid(4, 8)", "optim.learning_rate=loguniform(1e-4, 1e-2)", "trials=2"]
    train(DEMO, settings, dry_run=True, varied=varied)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("trial 001 (lora.rank=8 optim.learning_rate=0.00")
    train(DEMO, settings, dry_run=True, varied=varied, as_json=True)
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 4
    with pytest.raises(UserError, match=r"did you mean 'lora\.rank'"):
        train(DEMO, settings, varied=["lora.rnk=grid(4, 8)"])
    with pytest.raises(UserError, match="no checkpoint 'builtin:large'"):
        train(DEMO, settings, varied=["base=grid(builtin:base, builtin:large)"])
    assert list(tmp_path.iterdir()) == []


def test_the_results_of_a_sweep_name_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(tmp_path)
    record.outcomes[1].take(Report(4, 0.25, 0.5))
    record.outcomes[1].status = "finished"
    _show_sweep(record, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"best: trial 001, WER 25.0%: {record.uri}/best"
    _show_sweep(record, as_json=True)
    assert json.loads(capsys.readouterr().out)["best"]["trial"] == "001"


@pytest.mark.slow
@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_the_umask_says_who_may_read_what_the_verbs_write(
    english_clips: list[Utterance], small_base: str, tmp_path: Path, umask: int, mode: int
) -> None:
    """A hospital's transcripts and recordings, prepared and evaluated: of all files and folders."""
    for clip in english_clips[:12]:
        (tmp_path / "set" / Path(str(clip.audio)).name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / Path(str(clip.audio)).name).write_bytes(Path(str(clip.audio)).read_bytes())
        (tmp_path / "set" / Path(str(clip.audio)).with_suffix(".txt").name).write_text(clip.text)
    out = tmp_path / "out"
    before = os.umask(umask)
    try:
        inspect(str(tmp_path / "set"), out=out / "inspected", as_json=True)
        prepare(str(tmp_path / "set"), out / "prepared", ["min_test_clips=2"], as_json=True)
        if umask == 0o077:
            evaluate(small_base, out / "prepared/test.jsonl", out=out / "evaluated")
    finally:
        os.umask(before)
    written = {path.relative_to(out).as_posix(): path.stat().st_mode & 0o777 for path in out.rglob("*")}
    assert len(written) > 20
    assert {name: bits for name, bits in written.items() if bits & ~(mode | 0o111)} == {}
    assert {bits for name, bits in written.items() if (out / name).is_file()} == {mode}


FORMULAS = ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "x\r=1", "＝1", "'=1"]


def test_a_transcript_that_is_a_formula_or_a_script_is_text_in_table_and_report(tmp_path: Path) -> None:
    attacks = [*FORMULAS, "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "| a | [x](javascript:1) |"]
    rows = [UtteranceResult(text, f"{text} said", f"{text} heard", 1.0) for text in attacks]
    evaluation = Evaluation("=model", "en", "full", rows, 1.0)
    evaluation.write_table(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    assert len(table) == len(attacks) + 1
    assert [cell for row in table for cell in row if cell[:1] in set("=+-@\t\r\n＝＋－＠")] == []
    assert [told(row[0]) for row in table[1:]] == [row.id for row in evaluation.results]
    write_report(tmp_path / "report.html", [evaluation], attacks[-3], {"manifest": attacks[-2]})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page
