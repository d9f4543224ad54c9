from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.split import Splits, split, transcript_key
from asr.errors import UserError
from asr.utterance import Utterance


def clips(texts: list[str]) -> list[Utterance]:
    return [Utterance(f"clip-{number:04d}", "a.wav", text) for number, text in enumerate(texts)]


def deal(rows: list[Utterance], seed: int = 0) -> Splits:
    return split(rows, validation_share=0.1, test_share=0.2, min_test_clips=5, seed=seed)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Grazie.", "grazie", True),
        ("E' in uso", "È in uso!", False),
        ("Straße 5", "STRASSE 5", True),
        ("Premere 1", "Premere 2", False),
        ("Ｃｉａｏ", "ciao", True),
        ("कि", "की", False),
    ],
)
def test_what_counts_as_the_same_transcript(one: str, other: str, same: bool) -> None:
    first, second = clips([one, other])
    assert (transcript_key(first) == transcript_key(second)) is same


def test_clips_without_words_are_told_apart_by_id() -> None:
    first, second = clips(["...", ""])
    assert transcript_key(first) != transcript_key(second)


@pytest.mark.medium
@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text("abAB .1", max_size=5), min_size=60, max_size=120),
    seed=st.integers(0, 5),
    order=st.randoms(use_true_random=False),
)
def test_disjoint_complete_and_blind_to_order(texts: list[str], seed: int, order: random.Random) -> None:
    rows = clips([*texts, *(f"parola {n}" for n in range(40))])
    splits = deal(rows, seed)
    parts = (splits.train, splits.validation, splits.test)
    assert sorted(u.id for part in parts for u in part) == [u.id for u in rows]
    keys = [{transcript_key(u) for u in part} for part in parts]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    assert len(splits.test) >= 5
    assert len(splits.test) == round(0.2 * len(rows))
    order.shuffle(rows)
    assert deal(rows, seed) == splits


def test_the_seed_matters() -> None:
    rows = clips([f"parola {n}" for n in range(100)])
    assert deal(rows, 0).test != deal(rows, 1).test


@pytest.mark.parametrize("seed", range(5))
def test_lengths_are_alike_in_all_splits(seed: int) -> None:
    rng = random.Random(seed)
    rows = clips(["x" * int(rng.lognormvariate(3, 1)) + f" {n:04d}" for n in range(600)])
    splits = deal(rows, seed)

    def median(part: list[Utterance]) -> float:
        return sorted(len(u.text) for u in part)[len(part) // 2]

    assert median(splits.test) == pytest.approx(median(rows), rel=0.15)
    assert median(splits.validation) == pytest.approx(median(rows), rel=0.15)


def test_a_transcript_said_a_thousand_times_stays_in_training() -> None:
    splits = deal(clips(["sì"] * 1000 + [f"parola {n}" for n in range(600)]))
    assert {u.text for u in splits.test + splits.validation}.isdisjoint({"sì"})
    assert len(splits.test) == 320


def test_the_minimum_outranks_the_share_and_may_be_overshot_by_a_group() -> None:
    rows = clips(["sì"] * 20 + ["no"] * 30 + ["forse"] * 40)
    splits = split(rows, validation_share=0.0, test_share=0.01, min_test_clips=10, seed=0)
    assert {u.text for u in splits.test} == {"sì"}
    assert splits.validation == []


def test_too_few() -> None:
    with pytest.raises(UserError, match=r"4 clips .* min_test_clips=5"):
        deal(clips(["uno", "due", "tre", "quattro"]))
    with pytest.raises(UserError, match="0 clips"):
        deal([])
