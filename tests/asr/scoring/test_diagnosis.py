from __future__ import annotations

from asr.scoring.diagnosis import explain
from asr.scoring.evaluation import Evaluation, UtteranceResult


def evaluation(*pairs: tuple[str, str], language: str | None = "en") -> Evaluation:
    results = [UtteranceResult(f"clip{n}", said, heard, 2.0) for n, (said, heard) in enumerate(pairs)]
    return Evaluation("tiny", language, "full", results, 1.0)


def test_the_kinds_of_errors_are_always_told() -> None:
    said = explain(evaluation(("one two three four", "one too three four five"), ("five six", "five six")))
    assert said == ["of 6 words in the references: 1 words substituted, 0 left out, 1 put in"]


def test_a_loop_is_named_where_the_rate_is_over_100_percent() -> None:
    lines = explain(evaluation(("thank you", "thank you " * 60), ("goodbye", "goodbye")))
    assert lines[0].endswith("0 left out, 118 put in")
    assert lines[1:] == ["text that repeats itself in 1 of 2 clips, 100% of the words put in: clip0"]


def test_the_wrong_language_shows_in_the_letters() -> None:
    lines = explain(evaluation(("ދިވެހި ބަހެކެވެ", "the way he backed away"), language=None))
    assert "transcripts are in Latin letters, references in Thaana: the language was detected, see --language" in lines
    lines = explain(evaluation(("привет", "preevyet"), language="en"))
    assert lines[-1].endswith("references in Cyrillic: language 'en' was asked for, see --language")


def test_clips_in_which_nothing_was_heard_are_counted() -> None:
    lines = explain(evaluation(*[(f"word {n}", "") for n in range(5)]))
    assert lines[1:] == ["nothing was transcribed in 5 of 5 clips: clip0, clip1, clip2 ..."]


def test_languages_without_spaces_are_read_by_characters() -> None:
    lines = explain(evaluation(("今日はいい天気です", "今日はいい転機です"), language="ja"))
    assert lines[1:] == ["Japanese is written without spaces, a sentence is one word: read the CER"]


def test_long_marks_of_a_loop_were_taken_for_a_script() -> None:
    """``ー`` is of no script of its own: 'transcripts are in Common letters'."""
    said = explain(evaluation(("ދިވެހި ބަސް", "あーーーーーーーーーーーー"), language="dv"))
    assert any("Hiragana" in line and "Thaana" in line for line in said), said
