"""The verb ``compare``, called as the command line calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import encode_flac
from asr.errors import UserError
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.asr.scoring.test_comparison import BETTER, WORSE, compared, measured
from tests.manifests import read_quarantine, write_beside
from train.evaluation import compare as comparing
from train.evaluation.cli import compare, show
from train.evaluation.measuring import measure


@pytest.fixture
def manifest(tmp_path: Path, english_clips: list[Utterance]) -> Path:
    """Three good rows, and two that are not."""
    (tmp_path / "silence.flac").write_bytes(encode_flac(np.zeros(32_000, dtype=np.float32)))
    path = tmp_path / "mine.jsonl"
    write_beside(path, english_clips[:3])
    rows = ['{"id": "nan", "audio": "a.flac", "text": NaN}', '{"id": "mute", "audio": "silence.flac", "text": "a"}']
    path.write_text("\n".join([path.read_text(encoding="utf-8").strip(), *rows]))
    return path


@pytest.mark.slow
@pytest.mark.weights
def test_two_models_are_compared_and_the_second_time_from_what_is_kept(
    manifest: Path, tiny_en_name: str, small_base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    compare([tiny_en_name, small_base], str(manifest), context="short", out=out, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["utterances"], told["quarantined"]) == (5, 3, 2)
    assert {one["reason"] for one in told["quarantine"]} == {"not_text", "silent"}
    good, random = told["models"]
    assert good["checkpoint"] == tiny_en_name and good["wer"]["rate"] < 0.3 < random["wer"]["rate"]
    assert good["casing"]["share"] > 0.5 and good["speed"] > 0 and good["parameters"] > random["parameters"]
    assert told["differences"][0]["certain"] and told["disagreements"]["in_words"] == 3
    assert {path.name for path in out.iterdir()} == {
        *("report.html", "comparison.json", "table.csv", "quarantine.parquet", "models"),
    }
    assert {row.id for row in read_quarantine(out / "quarantine.parquet")} == {"nan", "mute"}
    saved = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert saved["models"] == told["models"] and len(saved["results"]) == 2
    compare([tiny_en_name, small_base], str(manifest), context="short", out=out)
    printed = capsys.readouterr().out
    assert f"{good['wer']['rate']:.1%}".replace("%", "\u202f%") in printed
    assert "5 rows: 3 clips scored, 0 without words, 2 in quarantine" in printed
    assert "not_text: 1, for example nan" in printed and "makes fewer errors than" in printed


@pytest.mark.medium
def test_a_report_that_was_not_written_was_told_of(
    small_base: str,
    english_clips: list[Utterance],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does one of other clips stay beside the new figures."""
    monkeypatch.setattr(comparing, "measured_apart", measure)
    write_beside(tmp_path / "dots.jsonl", [replace(english_clips[0], text="...")])
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").touch()
    compare([small_base, small_base], str(tmp_path / "dots.jsonl"), context="short", out=out)
    printed = capsys.readouterr().out
    assert "report.html" not in printed and "no report, as no reference has words" in printed
    assert {path.name for path in out.iterdir()} == {"comparison.json", "table.csv", "quarantine.parquet", "models"}


def test_people_see_figures_and_three_utterances(capsys: pytest.CaptureFixture[str]) -> None:
    show(compared(measured(WORSE, "ctc"), measured(BETTER)))
    printed = capsys.readouterr().out
    for told in (
        "ctc",
        "builtin:base",
        "audio s/s",
        "1.4 GB",
        "72.6 M, 290 MB",
        "0.0\u202f% of 3",
        "100.0\u202f% of 3",
    ):
        assert told in printed, told
    assert "clips on which the models differ: 3, of these in words: 2" in printed
    assert "clip-0: 2 words apart" in printed and "clip-1: case or punctuation" in printed
    lines = [line.strip().split(maxsplit=1) for line in printed.splitlines()]
    assert ["ctc", "a mery christmaus anna"] in lines and ["reference", "to all"] in lines


@pytest.mark.parametrize(
    ("models", "options", "expected"),
    [
        (["builtin:base"], {}, "only one model is named: builtin:base"),
        (["builtin:base", "builtin:large"], {}, "no checkpoint 'builtin:large'"),
        (["builtin:base", "builtin:tiny.en"], {"context": "shrot"}, "--context shrot: unknown"),
        (["builtin:base", "builtin:tiny.en"], {"language": "itallian"}, "did you mean 'italian'"),
        (["builtin:base", "builtin:tiny.en"], {}, "gone.jsonl"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(
    models: list[str], options: dict[str, str], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected):
        compare(models, str(tmp_path / "gone.jsonl"), **options)  # type: ignore[arg-type]


def test_letters_of_a_few_rows_that_a_model_lacks_are_told_and_not_only_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny.write(tmp_path / "model", "wav2vec2-base-960h"))
    rows = [{"id": text, "audio": "gone.wav", "text": text} for text in ("one", "two", "ދިވެހި")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="none of 3 utterances can be compared"):
        compare([model, model], str(tmp_path / "rows.jsonl"))
    told = f"{model}: 1 of 3 transcripts have letters that the vocabulary lacks, such as 'ދިވެހި': "
    assert told in capsys.readouterr().err
