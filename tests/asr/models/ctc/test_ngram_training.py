from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.models.ctc.ngram_training import train_ngram

WORDS = ["a", "b", "c", "d"]
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=1, max_size=12)


@given(SENTENCES, st.integers(1, 4), st.lists(st.sampled_from([*WORDS, "<unk>"]), max_size=4))
def test_the_probabilities_of_what_may_follow_add_up_to_1(
    sentences: list[list[str]], order: int, history: list[str]
) -> None:
    model = train_ngram(sentences, order)
    seen = [ngram[0] for ngram in model.logs if len(ngram) == 1 and ngram != ("<s>",)]
    for before in (["<s>", *history], history):
        total = sum(math.exp(model.score(before, word)) for word in seen)
        assert total == pytest.approx(1, abs=1e-4)  # six digits are kept


def test_letters_never_seen_share_what_new_words_get() -> None:
    sentences = [list("banana"), list("bandana")]
    closed = train_ngram(sentences, 3, alphabet="abdnxy")
    new = math.exp(train_ngram(sentences, 3).score((), "?"))
    assert [math.exp(closed.score((), letter)) for letter in "xy?"] == pytest.approx([new / 3] * 3, rel=1e-4)


def test_new_words_are_likelier_where_most_words_are_seen_once() -> None:
    repetitive = train_ngram([["la", "casa"] * 10], 1)
    varied = train_ngram([[f"w{number}" for number in range(20)]], 1)
    assert math.exp(repetitive.score((), "<unk>")) < math.exp(varied.score((), "<unk>"))


def test_a_word_seen_after_few_others_is_less_likely_after_a_new_one() -> None:
    """Kneser and Ney's point: "Francisco" is frequent, but only after "San"."""
    sentences = [["san", "francisco"]] * 6 + [[word, "glasses"] for word in ("my", "your", "her", "his")]
    model = train_ngram(sentences, 2)
    assert model.score(["the"], "glasses") > model.score(["the"], "francisco")
    assert model.score(["san"], "francisco") > math.log(0.7)


def test_the_discounts_are_those_of_the_paper() -> None:
    """With n1..n4 = 5, 2, 1, 1: Y = n1 / (n1 + 2 n2), D1 = 1 - 2Y n2/n1, D2 = 2 - 3Y n3/n2, D3 = 3 - 4Y n4/n3."""
    text = ["a", "b", "c", "d", "e", "e", "f", "f", "g", "g", "g"] + ["h"] * 4
    model = train_ngram([text], 1)  # 16 words with </s>, which is one of those seen once
    probabilities = {word: math.exp(model.score((), word)) for word in ("</s>", "e", "g", "h")}
    y = 5 / 9
    expected = {"</s>": 1 - 2 * y * 2 / 5, "e": 2 - 3 * y * 1 / 2, "g": 3 - 4 * y * 1 / 1}
    for word, count in (("</s>", 1), ("e", 2), ("g", 3)):
        assert probabilities[word] == pytest.approx((count - expected[word]) / 16, rel=1e-4)
    assert probabilities["h"] == pytest.approx((4 - expected["g"]) / 16, rel=1e-4)
