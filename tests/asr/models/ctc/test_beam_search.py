from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.models.ctc.beam_search import BeamOptions, Floats, State, beam_search, together

EXACT = BeamOptions(width=10_000, floor=-np.inf, margin=np.inf, results=10_000)
BLANK = 0


def emissions(positions: int, symbols: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    logits_TV = np.random.default_rng(seed).normal(size=(positions, symbols)) * sharpness
    return (logits_TV - np.logaddexp.reduce(logits_TV, axis=1, keepdims=True)).astype(np.float32)


def every_path(logprobs_TV: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of every prefix by its definition: all paths that collapse to it."""
    positions, symbols = logprobs_TV.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(symbols), repeat=positions):
        tokens = tuple(one for one, _ in itertools.groupby(path) if one != BLANK)
        logprob = float(sum(logprobs_TV[position, one] for position, one in enumerate(path)))
        found[tokens] = float(np.logaddexp(found.get(tokens, -np.inf), logprob))
    return found


@dataclass(frozen=True)
class Seeded:
    """Bonuses that depend on the whole prefix, known of each alone."""

    symbols: int
    prefix: tuple[int, ...] = field(default=())

    @property
    def row_V(self) -> Floats:
        return np.random.default_rng([1, *self.prefix]).normal(size=self.symbols)

    @property
    def end(self) -> float:
        return float(np.random.default_rng([2, *self.prefix]).normal())

    def after(self, symbol: int) -> Seeded:
        return Seeded(self.symbols, (*self.prefix, symbol))

    def of(self, tokens: tuple[int, ...]) -> float:
        """The bonus of a whole text."""
        rows = [Seeded(self.symbols, tokens[:place]).row_V[one] for place, one in enumerate(tokens)]
        return float(sum(rows)) + Seeded(self.symbols, tokens).end


@settings(max_examples=40)
@given(positions=st.integers(0, 5), symbols=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_a_beam_as_wide_as_need_be_finds_what_all_paths_say(positions: int, symbols: int, seed: int) -> None:
    logprobs_TV = emissions(positions, symbols, seed)
    expected = every_path(logprobs_TV)
    found = beam_search(logprobs_TV, BLANK, None, EXACT)
    assert {one.tokens: one.score for one in found} == pytest.approx(expected, abs=1e-4)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert [one.acoustic for one in found] == [one.score for one in found]


@settings(max_examples=40)
@given(positions=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_a_bonus_counts_once_however_many_paths_lead_to_a_prefix(positions: int, seed: int) -> None:
    logprobs_TV, start = emissions(positions, 3, seed), Seeded(3)
    expected = {tokens: logprob + start.of(tokens) for tokens, logprob in every_path(logprobs_TV).items()}
    found = beam_search(logprobs_TV, BLANK, start, EXACT)
    assert {one.tokens: one.score for one in found} == pytest.approx(expected, abs=1e-4)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 12))
def test_no_prefix_is_in_a_narrow_beam_twice(seed: int, width: int) -> None:
    """One that fell out and came back, with what hangs on it still there, is the same one."""
    found = beam_search(emissions(12, 4, seed, 0.5), BLANK, Seeded(4), BeamOptions(width, results=100))
    assert len({one.tokens for one in found}) == len(found) <= width


def test_a_wider_beam_finds_no_worse_a_text_on_average() -> None:
    scores = [
        np.mean([beam_search(emissions(40, 12, s, 1.0), BLANK, None, BeamOptions(w))[0].score for s in range(4)])
        for w in (1, 4, 32)
    ]
    assert scores == sorted(scores)


def test_a_bonus_brings_no_symbol_that_the_sound_rules_out() -> None:
    probabilities_TV = np.full((6, 4), 1e-7)
    probabilities_TV[:, 1] = 1.0
    logprobs_TV = np.log(probabilities_TV / probabilities_TV.sum(axis=1, keepdims=True)).astype(np.float32)

    class Wants2(Seeded):
        @property
        def row_V(self) -> Floats:
            return np.array([0.0, 0.0, 50.0, 0.0])

        def after(self, symbol: int) -> Wants2:
            return self

    assert beam_search(logprobs_TV, BLANK, Wants2(4))[0].tokens == (1,)


def test_a_large_vocabulary_with_even_emissions() -> None:
    """No symbol is above the floor: the best one of a position is taken all the same."""
    logprobs_TV = np.full((3, 50_000), -np.log(50_000), dtype=np.float32)
    logprobs_TV[1, 7] += 0.1
    assert beam_search(logprobs_TV, BLANK)[0].tokens in ((), (7,))


def test_the_order_of_equals_is_always_the_same() -> None:
    even_TV = np.full((6, 5), -np.log(5), dtype=np.float32)
    options = BeamOptions(width=8, results=8)
    assert beam_search(even_TV, BLANK, None, options) == beam_search(even_TV.copy(), BLANK, None, options)


def test_states_together_add_their_bonuses() -> None:
    first, second = Seeded(3), Seeded(3, (1, 2))
    assert together([None, None]) is None
    assert together([None, first]) is first
    both: State | None = together([first, None, second])
    assert both is not None
    np.testing.assert_allclose(both.row_V, first.row_V + second.row_V)
    assert both.after(1).end == pytest.approx(first.after(1).end + second.after(1).end)
