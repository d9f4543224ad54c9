import pickle

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.scoring.edits import AlignedSpan, EditCounts, align_characters, align_words, count


def count_words(references: list[str], hypotheses: list[str]) -> EditCounts:
    pairs = zip(references, hypotheses, strict=True)
    return sum((count(align_words(reference, hypothesis)) for reference, hypothesis in pairs), EditCounts())


def count_characters(references: list[str], hypotheses: list[str]) -> EditCounts:
    pairs = zip(references, hypotheses, strict=True)
    return sum((count(align_characters(reference, hypothesis)) for reference, hypothesis in pairs), EditCounts())


WORDS = st.lists(st.sampled_from(["uno", "due", "tre", "è"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", EditCounts(hits=3)),
        ("a b c", "a x c", EditCounts(hits=2, substitutions=1)),
        ("a b c", "a c", EditCounts(hits=2, deletions=1)),
        ("a b c", "a b b c", EditCounts(hits=3, insertions=1)),
        ("a b", "", EditCounts(deletions=2)),
        ("", "a b", EditCounts(insertions=2)),
        ("", "", EditCounts()),
        ("a\tb\nc", " a  b c ", EditCounts(hits=3)),
    ],
)
def test_words_counted_by_hand(reference: str, hypothesis: str, expected: EditCounts) -> None:
    assert count_words([reference], [hypothesis]) == expected


def test_characters_are_code_points_and_a_space_is_one() -> None:
    assert count_characters(["ދި ވެ"], ["ދި  ވެ"]) == EditCounts(hits=5)
    assert count_characters(["ދިވެ"], ["ދވ"]) == EditCounts(hits=2, deletions=2)


def test_rate() -> None:
    counts = EditCounts(hits=6, substitutions=2, deletions=2, insertions=1)
    assert (counts.errors, counts.reference_length, counts.rate) == (5, 10, 0.5)
    assert EditCounts(hits=1, insertions=4).rate == 4.0
    assert EditCounts().rate == 0.0
    assert EditCounts(insertions=3).rate == 3.0


def test_alignment_shows_which_word_met_which() -> None:
    assert align_words("il gatto nero dorme qui", "un gatto dorme qui bene") == [
        AlignedSpan("substitute", ("il",), ("un",)),
        AlignedSpan("equal", ("gatto",), ("gatto",)),
        AlignedSpan("delete", ("nero",), ()),
        AlignedSpan("equal", ("dorme", "qui"), ("dorme", "qui")),
        AlignedSpan("insert", (), ("bene",)),
    ]


@given(reference=WORDS, hypothesis=WORDS)
def test_an_alignment_holds_every_word_once_and_in_order(reference: str, hypothesis: str) -> None:
    for spans, units in (
        (align_words(reference, hypothesis), (reference.split(), hypothesis.split())),
        (align_characters(reference, hypothesis), (list(reference), list(hypothesis))),
    ):
        assert [word for span in spans for word in span.reference] == units[0]
        assert [word for span in spans for word in span.hypothesis] == units[1]
        assert count(spans).reference_length == len(units[0])


@given(reference=WORDS.filter(bool), hypothesis=WORDS)
def test_rates_are_jiwers(reference: str, hypothesis: str) -> None:
    assert count_words([reference], [hypothesis]).rate == pytest.approx(jiwer.wer(reference, hypothesis))
    assert count_characters([reference], [hypothesis]).rate == pytest.approx(jiwer.cer(reference, hypothesis))


@pytest.mark.medium
@given(pairs=st.lists(st.tuples(WORDS, WORDS), max_size=6), cut=st.integers(0, 6))
def test_counts_of_shards_add_up(pairs: list[tuple[str, str]], cut: int) -> None:
    references, hypotheses = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for counter in (count_words, count_characters):
        shards = counter(references[:cut], hypotheses[:cut]) + counter(references[cut:], hypotheses[cut:])
        assert shards == counter(references, hypotheses)


def test_unequal_numbers_of_texts_are_refused() -> None:
    with pytest.raises(ValueError):
        count_words(["a", "b"], ["a"])


def test_counts_cross_processes() -> None:
    assert pickle.loads(pickle.dumps(EditCounts(1, 2, 3, 4))) == EditCounts(1, 2, 3, 4)
