from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.sampling.mixing import Runs, draw, shares, shuffled

SIZES = st.lists(st.integers(1, 10_000), min_size=1, max_size=6)


def alone(size: int, seed: int = 0) -> list[Runs]:
    return [
        shuffled((np.arange(size), np.ones(size, int)), np.random.default_rng([seed, number])) for number in range(200)
    ]


def flat(runs: Runs) -> list[int]:
    return [index for first, count in zip(*runs, strict=True) for index in range(first, first + count)]


@given(SIZES, st.floats(1.0, 20.0))
def test_an_epoch_is_as_long_as_all_sources_together(sizes: list[int], temperature: float) -> None:
    drawn = shares(sizes, [None] * len(sizes), temperature)
    assert sum(drawn) == sum(sizes)
    if temperature == 1.0:
        assert drawn == sizes
    parts = [count / size for count, size in zip(drawn, sizes, strict=True)]
    for (small, more), (large, less) in zip(
        *[iter(sorted(zip(sizes, parts, strict=True)))] * 2, strict=False
    ):  # heat helps the small ones
        assert small <= large
        assert more >= less - 1 / small - 1 / large


def test_natural_shares_are_the_sizes_and_weights_are_relative() -> None:
    assert shares([7, 1000, 3], [None, None, None], 1.0) == [7, 1000, 3]
    assert shares([900, 100], [1.0, 1.0], 1.0) == [500, 500]
    assert shares([900, 100], [3.0, 1.0], 1.0) == [750, 250]
    assert shares([900, 100], [None, None], 2.0) == [750, 250]  # square roots: 30 to 10
    assert shares([1, 1, 1], [1.0, 1.0, 1.0], 1.0) == [1, 1, 1]
    with pytest.raises(ValueError, match="every source has a weight, or none"):
        shares([1, 2], [1.0, None], 1.0)


@pytest.mark.medium
@given(st.integers(1, 40), st.integers(1, 100), st.integers(0, 8))
def test_no_utterance_comes_again_before_all_of_them_came(size: int, count: int, epochs: int) -> None:
    passes = alone(size)
    met = [index for epoch in range(epochs) for index in flat(draw(size, count, epoch, lambda n: passes[n % 200]))]
    assert len(met) == count * epochs
    for start in range(0, len(met) - size + 1, size):
        assert Counter(met[start : start + size]) == Counter(range(size))


def test_a_natural_epoch_is_one_pass_and_each_has_its_own_order() -> None:
    passes = alone(50)
    epochs = [flat(draw(50, 50, epoch, passes.__getitem__)) for epoch in range(20)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 50))
def test_runs_stay_together_but_across_the_border_of_an_epoch(lengths: list[int], count: int) -> None:
    size = sum(lengths)
    whole = (np.cumsum([0, *lengths])[:-1], np.array(lengths))
    met: list[int] = []
    for epoch in range(6):
        runs = draw(size, count, epoch, lambda number: whole)
        inner = [*zip(*runs, strict=True)][1:-1]
        assert all(run in [*zip(*whole, strict=True)] for run in inner)
        met += flat(runs)
    assert met == (list(range(size)) * (6 * count // size + 1))[: 6 * count]


def test_a_source_may_be_left_out() -> None:
    assert flat(draw(5, 0, 3, alone(5).__getitem__)) == []
