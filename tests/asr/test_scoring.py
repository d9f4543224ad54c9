import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import scoring
from asr.edits import AlignedSpan, EditCounts
from asr.errors import UserError
from asr.scoring import Score, bootstrap_interval, has_words, pool, score, score_silence, score_utterance

COUNTS = st.builds(EditCounts, *[st.integers(0, 30)] * 4)


def test_an_utterance_by_hand() -> None:
    scored = score_utterance("L'amico, disse: «È qui!»", "l’amico è qui", "normalised", "it")
    assert scored.words == EditCounts(hits=4, deletions=1)
    assert scored.characters == EditCounts(hits=13, deletions=6)
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


def test_characters_for_languages_without_spaces() -> None:
    assert score(["今日は"], ["今日わ"], language="ja", unit="character").rate == pytest.approx(1 / 3)
    assert score(["今日は"], ["今日わ"], language="ja").rate == 1.0


@given(counts=st.lists(COUNTS, min_size=1, max_size=20), cut=st.integers(0, 20))
@settings(deadline=None)
def test_pooled_counts_are_the_sum_of_any_shards(counts: list[EditCounts], cut: int) -> None:
    shards = [part for part in (counts[:cut], counts[cut:]) if part]
    assert sum((pool(part).counts for part in shards), EditCounts()) == pool(counts).counts


@given(counts=st.lists(COUNTS, min_size=1, max_size=20))
@settings(deadline=None)
def test_the_interval_holds_the_rate(counts: list[EditCounts]) -> None:
    result = pool(counts)
    assert result.low - 1e-9 <= result.rate <= result.high + 1e-9


def test_the_interval_is_the_same_each_time_and_its_seed_matters() -> None:
    counts = [EditCounts(hits=10, substitutions=i % 4) for i in range(50)]
    assert bootstrap_interval(counts) == bootstrap_interval(counts)
    assert bootstrap_interval(counts, seed=1) != bootstrap_interval(counts, seed=2)


def test_more_utterances_and_less_confidence_narrow_the_interval() -> None:
    def width(number: int, confidence: float = 0.95) -> float:
        low, high = bootstrap_interval([EditCounts(9, i % 3) for i in range(number)], confidence=confidence)
        return high - low

    assert width(900) < width(90) / 2
    assert width(90, 0.5) < width(90)


def test_the_interval_is_near_the_normal_approximation() -> None:
    counts = [EditCounts(hits=10 - i % 2 * 2, substitutions=i % 2 * 2) for i in range(400)]
    low, high = bootstrap_interval(counts)
    half = 1.96 * 0.1 / 400**0.5
    assert (low, high) == (pytest.approx(0.1 - half, rel=0.05), pytest.approx(0.1 + half, rel=0.05))


def test_many_utterances_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [EditCounts(9, i % 3) for i in range(90)]
    whole = bootstrap_interval(counts)
    monkeypatch.setattr(scoring, "_BLOCK", 90 * 7)
    assert bootstrap_interval(counts) == pytest.approx(whole)
    monkeypatch.setattr(scoring, "_BLOCK", 1)
    assert bootstrap_interval(counts) == pytest.approx(whole)


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
