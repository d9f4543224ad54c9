from pathlib import Path

import pytest

from asr.errors import UserError
from asr.scoring.edits import AlignedSpan, EditCounts
from asr.scoring.error_rates import Score, Unit, has_words, score, score_silence, score_utterance
from asr.scoring.metrics.cer.cer import Cer
from asr.scoring.metrics.wer.wer import Wer


def test_an_utterance_by_hand() -> None:
    scored = score_utterance("L'amico, disse: «È qui!»", "l’amico è qui", "normalised", "it")
    assert scored.words == EditCounts(hits=4, deletions=1)
    assert scored.alignment == [
        AlignedSpan("equal", ("l", "amico"), ("l", "amico")),
        AlignedSpan("delete", ("disse",), ()),
        AlignedSpan("equal", ("è", "qui"), ("è", "qui")),
    ]


def test_the_normaliser_decides_what_counts() -> None:
    references, hypotheses = ["Buongiorno, Anna."], ["buongiorno anna"]
    assert score(references, hypotheses, "normalised").rate == 0.0
    assert score(references, hypotheses, "orthographic").rate == 1.0


def test_a_reference_of_punctuation_alone_makes_insertions() -> None:
    assert score_utterance("...", "grazie mille").words == EditCounts(insertions=2)
    assert score(["...", "uno due"], ["grazie mille", "uno due"]).rate == 1.0


def test_a_loop_scores_over_one_hundred_percent() -> None:
    result = score(["ciao"], ["grazie " * 5])
    assert result == Score(EditCounts(substitutions=1, insertions=4), low=5.0, high=5.0)
    assert result.rate == 5.0


def test_characters_by_hand() -> None:
    found = score(["L'amico, disse: «È qui!»"], ["l’amico è qui"], "normalised", "it", "character")
    assert found.counts == EditCounts(hits=13, deletions=6)


def test_characters_for_languages_without_spaces() -> None:
    assert score(["今日は"], ["今日わ"], language="ja", unit="character").rate == pytest.approx(1 / 3)
    assert score(["今日は"], ["今日わ"], language="ja").rate == 1.0


@pytest.mark.parametrize("unit", ["word", "character"])
def test_whoever_loads_the_metric_gets_the_same_figures(unit: Unit, tmp_path: Path) -> None:
    references, hypotheses = ["L'amico, disse: «È qui!»", "Ciao.", ""], ["l’amico è qui", "ciao ciao", "grazie"]
    name, metric = ("wer", Wer) if unit == "word" else ("cer", Cer)
    told = metric(keep_in_memory=True, cache_dir=str(tmp_path)).compute(
        predictions=hypotheses, references=references, normaliser="normalised", language="it", interval=True
    )
    found = score(references, hypotheses, "normalised", "it", unit)
    assert told == {**found.counts.as_metric(name), "low": found.low, "high": found.high}


def test_nothing_to_score_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="no utterance"):
        score([], [])


def test_unequal_numbers_of_texts_are_refused() -> None:
    with pytest.raises(ValueError):
        score(["a"], [])


def test_words_on_silence_are_counted_by_clips_and_minutes() -> None:
    found = score_silence(["Thank you.", "", "...", "Bye bye bye!"], [10.0, 5.0, 5.0, 10.0], "en")
    assert (found.words, found.clips_with_words, found.clips, found.words_per_min) == (5, 2, 4, 10.0)
    assert str(found) == "5 in 2 of 4 clips without words, 10.0 a minute"
    assert score_silence([], []).words_per_min == 0.0


@pytest.mark.parametrize("reference", ["", " ", "...", "♪ ♪", "-", "\u200b"])
def test_a_reference_of_signs_has_no_words(reference: str) -> None:
    assert not has_words(reference)
    assert has_words(f"{reference} 7") and has_words("ދި")
