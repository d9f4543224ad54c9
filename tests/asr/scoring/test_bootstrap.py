import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.scoring import bootstrap
from asr.scoring.bootstrap import bootstrap_interval, paired_interval
from asr.scoring.edits import EditCounts

COUNTS = st.builds(EditCounts, *[st.integers(0, 30)] * 4)


@given(counts=st.lists(COUNTS, min_size=1, max_size=20))
@settings(deadline=None)
def test_the_interval_holds_the_rate(counts: list[EditCounts]) -> None:
    low, high = bootstrap_interval(counts)
    assert low - 1e-9 <= sum(counts, EditCounts()).rate <= high + 1e-9


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
    monkeypatch.setattr(bootstrap, "_BLOCK", 90 * 7)
    assert bootstrap_interval(counts) == pytest.approx(whole)
    monkeypatch.setattr(bootstrap, "_BLOCK", 1)
    assert bootstrap_interval(counts) == pytest.approx(whole)


def test_a_paired_interval_knows_what_is_hard_for_both() -> None:
    """Of two models one makes an error more in every fourth utterance; how hard utterances are varies far more."""
    errors = [(i % 9, i % 9 + (i % 4 == 0)) for i in range(180)]
    one, other = (
        [EditCounts(hits=20 - each, substitutions=each) for each in wrong] for wrong in zip(*errors, strict=True)
    )
    low, high = paired_interval(other, one)
    assert 0.005 < low < 45 / 3600 < high < 0.02
    assert bootstrap_interval(one)[1] > bootstrap_interval(other)[0]  # the two intervals alone say nothing
    assert paired_interval(one, other) == pytest.approx((-high, -low), abs=0.001)
    assert paired_interval(one, one) == (0.0, 0.0)
    with pytest.raises(ValueError, match="180 utterances, but 3"):
        paired_interval(one, other[:3])
