import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from asr.audio.features import Context
from asr.io.spreadsheet import told
from asr.scoring.comparison import Measured, ModelComparison
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.utterance import Quarantined

SAID = ["A merry Christmas, Anna.", "Good night.", "to all"]
BETTER = ["A merry Christmas, Anna.", "Good night.", "to all"]
WORSE = ["a mery christmaus anna", "good night", "too oll"]


def measured(
    heard: list[str], checkpoint: str = "builtin:base", context: Context = "full", said: list[str] = SAID
) -> Measured:
    results = [UtteranceResult(f"clip-{i}", *texts, 2.0) for i, texts in enumerate(zip(said, heard, strict=True))]
    silence = [UtteranceResult("mute", "", "you", 4.0)]
    return Measured(
        Evaluation(checkpoint, "en", context, results, 5.0, silence),
        digest="sha256:12",
        family="whisper",
        parameters=72_593_920,
        weights_bytes=290_000_000,
        peak_bytes=1_400_000_000,
        peak_gpu_bytes=None,
        device="CPU",
        features_s=0.5,
        audio_decoding_s=0.25,
    )


def compared(*models: Measured) -> ModelComparison:
    return ModelComparison(list(models), [Quarantined("long", "too_long", "31 s")])


@pytest.fixture
def comparison() -> ModelComparison:
    return compared(measured(WORSE, "runs/ctc/artifact"), measured(BETTER))


def test_the_summary_has_every_figure_of_every_model(comparison: ModelComparison) -> None:
    summary = json.loads(json.dumps(comparison.summary()))
    assert (summary["utterances"], summary["silence"], summary["quarantined"]) == (3, 1, 1)
    assert summary["quarantine"][0]["reason"] == "too_long"
    ctc, base = summary["models"]
    assert (ctc["name"], base["name"]) == ("ctc", "builtin:base")
    assert ctc["wer"]["rate"] == pytest.approx(4 / 8)
    assert base["wer"]["rate"] == base["wer_ortho"]["rate"] == base["cer"]["rate"] == 0
    assert (ctc["casing"]["share"], ctc["casing"]["total"], base["casing"]["share"]) == (0, 3, 1)
    assert (ctc["punctuation"]["right"], base["punctuation"]["total"]) == (0, 3)
    assert (base["speed"], base["real_time_factor"]) == (2.0, 0.5)
    assert {name: base[name] for name in ("parameters", "peak_bytes", "weights_bytes", "peak_gpu_bytes")} == {
        "parameters": 72_593_920,
        "peak_bytes": 1_400_000_000,
        "weights_bytes": 290_000_000,
        "peak_gpu_bytes": None,
    }


def test_a_difference_is_certain_where_its_interval_says_so(comparison: ModelComparison) -> None:
    [found] = comparison.differences
    assert (found.first, found.second, found.difference) == ("ctc", "builtin:base", pytest.approx(0.5))
    assert not found.is_certain and found.finding.startswith("ctc and builtin:base: too close to tell apart")
    models = [measured(heard * 10, name, said=SAID * 10) for heard, name in ((WORSE, "ctc"), (BETTER, "base"))]
    [found] = compared(*models).differences
    assert found.is_certain and found.finding == "base makes fewer errors than ctc"
    [found] = compared(*reversed(models)).differences
    assert found.difference < 0 and found.finding == "base makes fewer errors than ctc"


def test_utterances_and_spellings_that_differ_most_come_first(comparison: ModelComparison) -> None:
    told = comparison.summary()["disagreements"]
    assert (told["utterances"], told["in_words"]) == (3, 2)
    assert [one["id"] for one in told["worst"]] == ["clip-0", "clip-2", "clip-1"]
    assert told["worst"][0]["hypotheses"] == {"ctc": WORSE[0], "builtin:base": BETTER[0]}
    spelled = comparison.summary()["spelled_differently"]
    assert {"reference": "christmas", "ctc": "christmaus", "builtin:base": "christmas", "times": 1} in spelled


def test_names_are_told_apart() -> None:
    def names(*models: Measured) -> list[str]:
        return compared(*models).names

    assert names(measured(BETTER), measured(BETTER)) == ["builtin:base (1)", "builtin:base (2)"]
    contexts = measured(BETTER, context="short"), measured(BETTER), measured(BETTER)
    assert names(*contexts) == ["builtin:base, short", "builtin:base, full (1)", "builtin:base, full (2)"]
    runs = measured(BETTER, "a/runs/x/artifact"), measured(BETTER, "b/runs/x/artifact")
    assert names(*runs) == ["a/runs/x", "b/runs/x"]


def test_results_of_two_test_sets_are_not_compared() -> None:
    with pytest.raises(ValueError, match="2 test sets"):
        compared(measured(BETTER), measured(BETTER, said=[*SAID[:2], "other"]))


def test_the_table_has_a_row_for_each_utterance(tmp_path: Path) -> None:
    hostile = compared(measured(["=1+1", *WORSE[1:]], "=ctc"), measured(BETTER))
    hostile.write_table(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:5] == ["id", "duration_s", "reference_words", "words_apart", "reference"]
    assert rows[0][5:] == ["errors, =ctc", "hypothesis, =ctc", "errors, builtin:base", "hypothesis, builtin:base"]
    assert [row[0] for row in rows[1:]] == ["clip-0", "clip-1", "clip-2", "mute"]
    assert told(rows[1][6]) == "=1+1" and rows[1][6] != "=1+1"
    assert rows[3][2:] == ["2", "2", "to all", "2", "too oll", "0", "to all"]
    assert rows[4][5:] == ["", "you", "", "you"]


def test_a_kept_result_is_read_back_and_any_other_file_is_none(tmp_path: Path) -> None:
    one = measured(WORSE)
    one.save(tmp_path / "kept.json")
    assert Measured.load(tmp_path / "kept.json") == one
    assert Measured.load(tmp_path / "gone.json") is None
    (tmp_path / "kept.json").write_text("{")
    assert Measured.load(tmp_path / "kept.json") is None


def test_silence_alone_has_no_rates(tmp_path: Path) -> None:
    alone = [
        replace(one, evaluation=replace(one.evaluation, results=[])) for one in (measured(BETTER), measured(WORSE))
    ]
    comparison = compared(*alone)
    comparison.save(tmp_path / "c.json", {"manifest": "m"})
    saved = json.loads((tmp_path / "c.json").read_text())
    assert saved["differences"] == [] and saved["models"][0]["wer"] is None and saved["manifest"] == "m"
    assert saved["models"][0]["silence"]["words"] == 1
