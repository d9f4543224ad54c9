import csv
import json
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.scoring.evaluation import Evaluation, UtteranceResult

RESULTS = [
    UtteranceResult("a", "Buongiorno, Anna.", "buongiorno anna", 2.0),
    UtteranceResult("b", "È qui", 'È "lì", ciao\nAnna', 1.5),
    UtteranceResult("c", "ދިވެހި", "ދިވެހި", 0.5),
]


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation("italian-lora", "it", "short", RESULTS, seconds=2.0)


def test_rates_pool_the_utterances(evaluation: Evaluation) -> None:
    assert evaluation.wer.rate == pytest.approx(3 / 5)
    assert evaluation.wer_ortho.rate == pytest.approx(5 / 5)
    assert [one.words.errors for one in evaluation.scored] == [0, 3, 0]
    assert 0 < evaluation.cer.rate < evaluation.wer.rate
    assert evaluation.wer.low <= evaluation.wer.rate <= evaluation.wer.high


def test_speed_is_speech_over_wall_time(evaluation: Evaluation) -> None:
    assert (evaluation.audio_s, evaluation.speed) == (4.0, 2.0)


def test_the_summary_is_json(evaluation: Evaluation) -> None:
    summary = json.loads(json.dumps(evaluation.summary()))
    assert summary["wer"] == {
        "rate": pytest.approx(0.6),
        "hits": 4,
        "substitutions": 1,
        "deletions": 0,
        "insertions": 2,
        "reference_length": 5,
        "low": evaluation.wer.low,
        "high": evaluation.wer.high,
    }
    assert {key: summary[key] for key in ("checkpoint", "language", "context", "utterances", "audio_s", "speed")} == {
        "checkpoint": "italian-lora",
        "language": "it",
        "context": "short",
        "utterances": 3,
        "audio_s": 4.0,
        "speed": 2.0,
    }
    assert set(summary) >= {"wer_ortho", "cer", "seconds"}


def test_the_table_has_a_row_for_each_utterance(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write_table(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["hypothesis"] for row in rows] == [one.hypothesis for one in RESULTS]
    assert rows[1] == {
        "id": "b",
        "duration_s": "1.500",
        "wer": "1.5000",
        "errors": "3",
        "reference_words": "2",
        "reference": "È qui",
        "hypothesis": 'È "lì", ciao\nAnna',
    }


def test_a_saved_evaluation_is_read_back(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    evaluation.save(path)
    assert Evaluation.load(path) == evaluation
    assert Evaluation.load(path).wer == evaluation.wer
    text = path.read_text(encoding="utf-8")
    assert text.index('"summary"') < text.index('"results"')
    assert "ދިވެހި" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"checkpoint": "x", "context": "long"}', "\x00"])
def test_a_file_that_is_no_evaluation_is_a_users_mistake(content: str, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"evaluation\.json: not a saved evaluation"):
        Evaluation.load(path)


def test_a_missing_file_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        Evaluation.load(tmp_path / "none.json")


def test_no_results_cannot_be_scored() -> None:
    with pytest.raises(UserError, match="no utterance"):
        _ = Evaluation("x", "it", "full", [], 1.0).wer


def with_silence() -> Evaluation:
    mute = [UtteranceResult("s1", "", "Thank you.", 3.0), UtteranceResult("s2", "...", "", 2.0)]
    return Evaluation("italian-lora", "it", "short", RESULTS, 2.0, mute)


def test_words_on_silence_are_in_no_error_rate(evaluation: Evaluation) -> None:
    without, found = evaluation, with_silence()
    for rate in ("wer", "wer_ortho", "cer"):
        assert getattr(found, rate) == getattr(without, rate)
        assert found.summary()[rate] == without.summary()[rate]
    assert found.summary()["utterances"] == len(RESULTS)
    assert found.summary()["silence"] == {
        "words": 2,
        "clips_with_words": 1,
        "clips": 2,
        "audio_s": 5.0,
        "words_per_min": 24.0,
    }
    assert found.audio_s == without.audio_s + 5.0


def test_clips_without_words_are_in_the_table_and_come_back(tmp_path: Path) -> None:
    found = with_silence()
    found.save(tmp_path / "e.json")
    assert Evaluation.load(tmp_path / "e.json") == found
    found.write_table(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(RESULTS) + 2
    assert [(row["id"], row["wer"], row["errors"], row["reference_words"]) for row in rows[-2:]] == [
        ("s1", "", "2", "0"),
        ("s2", "", "0", "0"),
    ]


def test_an_evaluation_of_before_there_was_silence_can_be_read(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path / "e.json")
    document = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    del document["silence"]
    (tmp_path / "e.json").write_text(json.dumps(document), encoding="utf-8")
    assert Evaluation.load(tmp_path / "e.json") == evaluation


@pytest.mark.parametrize(("empty", "signs", "warned"), [(4, 0, True), (3, 0, False), (3, 1, False), (0, 9, False)])
def test_more_empty_references_than_others_are_warned_of(empty: int, signs: int, warned: bool) -> None:
    mute = [UtteranceResult(f"{n}", "" if n < empty else "...", "", 1.0) for n in range(empty + signs)]
    found = Evaluation("x", "it", "full", RESULTS[:3], 1.0, mute)
    assert len(RESULTS[:3]) == 3
    assert bool(found.warnings) == bool(found.summary()["warnings"]) == warned


def test_silence_alone_has_no_error_rate() -> None:
    found = Evaluation("x", "it", "full", [], 1.0, [UtteranceResult("s", "", "ciao", 6.0)]).summary()
    assert (found["wer"], found["wer_ortho"], found["cer"]) == (None, None, None)
    assert (found["utterances"], found["silence"]["words_per_min"]) == (0, 10.0)
