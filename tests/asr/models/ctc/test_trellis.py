"""The best path through emissions, within a corridor, with breaks, and in chunks."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.models.ctc.trellis import Breaks, Corridor, Trellis


def random_logprobs(positions: int, columns: int, seed: int) -> NDArray[np.float32]:
    """Random emissions, peaky as those of a trained network."""
    rows = np.random.default_rng(seed).dirichlet(np.full(columns, 0.3), positions)
    return np.log(rows + 1e-6).astype(np.float32)


def score(logprobs_TC: NDArray[np.float32], columns: list[int], states: list[int]) -> float:
    """The log probability of a path; column 0 is the blank."""
    symbols = [columns[state // 2] if state % 2 else 0 for state in states]
    return float(sum(logprobs_TC[t, symbol] for t, symbol in enumerate(symbols)))


def is_path(columns: list[int], states: tuple[int, ...]) -> bool:
    """Whether it begins, goes on and ends as the rules of CTC allow."""
    last = 2 * len(columns)
    if states[0] > 1 or states[-1] < last - 1:
        return False
    for before, after in pairwise(states):
        jumps = after - before == 2 and after % 2 == 1 and columns[after // 2] != columns[before // 2]
        if after - before not in (0, 1) and not jumps:
            return False
    return True


@pytest.mark.parametrize("seed", range(30))
def test_no_path_scores_more(seed: int) -> None:
    generator = np.random.default_rng(seed)
    columns = generator.integers(1, 3, generator.integers(0, 4)).tolist()  # often the same twice
    logprobs_TC = random_logprobs(6, 3, seed)
    paths = [path for path in product(range(2 * len(columns) + 1), repeat=6) if is_path(columns, path)]
    best = max(score(logprobs_TC, columns, list(path)) for path in paths)
    trellis = Trellis(logprobs_TC, np.array(columns, dtype=np.int64), 0, Corridor.whole(6, len(columns)))
    found = tuple(trellis.path().tolist())
    assert is_path(columns, found)
    assert score(logprobs_TC, columns, list(found)) == pytest.approx(best, abs=1e-4)


def test_in_chunks_it_is_the_same_path() -> None:
    columns_L = np.random.default_rng(1).integers(1, 8, 60)
    logprobs_TC = random_logprobs(300, 8, seed=2)
    breaks = Breaks(np.array([0, 20, 25, 60]), np.array([0.0, 40.0, 41.0, 200.0]))
    for known in (Breaks(np.zeros(0, dtype=np.int64), np.zeros(0)), breaks):
        corridor = Corridor.whole(300, 60)
        paths = [
            Trellis(logprobs_TC, columns_L, 0, corridor, known, cells).path().tolist() for cells in (10**6, 500, 1)
        ]
        assert paths[0] == paths[1] == paths[2]


def test_a_path_keeps_to_its_corridor() -> None:
    columns_L = np.random.default_rng(1).integers(1, 8, 60)
    logprobs_TC = random_logprobs(300, 8, seed=2)
    free = Trellis(logprobs_TC, columns_L, 0, Corridor.whole(300, 60)).path()
    middle_T = (free + 1) // 2
    around = Corridor(np.maximum(middle_T - 3, 0), np.minimum(middle_T + 3, 60))
    assert Trellis(logprobs_TC, columns_L, 0, around).path().tolist() == free.tolist()
    late = Corridor(np.zeros(300, dtype=np.int64), np.where(np.arange(300) < 200, 5, 60))
    found = Trellis(logprobs_TC, columns_L, 0, late).path()
    assert found[:200].max() <= 10
    early = Corridor(np.where(np.arange(300) < 50, 0, 30), np.full(300, 60))
    found = Trellis(logprobs_TC, columns_L, 0, early).path()
    assert found[50:].min() >= 60


@pytest.mark.parametrize("seed", range(10))
def test_with_breaks_no_choice_of_what_is_spoken_scores_more(seed: int) -> None:
    columns, logprobs_TC = [1, 2, 2, 1], random_logprobs(5, 3, seed)
    breaks = Breaks(np.array([0, 2, 3, 4]), np.array([0.0, 3.0, 4.0, 5.5]))
    starred_TC = np.column_stack([logprobs_TC, np.zeros(5)])  # column 3: whatever is heard
    best = -np.inf
    for spoken in product((False, True), repeat=3):
        kept = [i for k, said in enumerate(spoken) if said for i in range(breaks.blanks_K[k], breaks.blanks_K[k + 1])]
        price = sum(cost for cost, said in zip(np.diff(breaks.costs_K), spoken, strict=True) if not said)
        tokens = [columns[i] for i in kept]
        free = {0, len(kept)} | {n for n, i in enumerate(kept) if i in breaks.blanks_K}
        for path in product(range(2 * len(kept) + 1), repeat=5):
            if not is_path(tokens, path) or not _rests(path, kept, spoken, breaks):
                continue
            symbols = [tokens[s // 2] if s % 2 else 3 if s // 2 in free else 0 for s in path]
            best = max(best, float(sum(starred_TC[t, symbol] for t, symbol in enumerate(symbols))) - price)
    found = Trellis(logprobs_TC, np.array(columns), 0, Corridor(np.zeros(5, int), np.full(5, 4)), breaks).path()
    said = {state // 2 for state in found.tolist() if state % 2}
    at_breaks = set(breaks.blanks_K.tolist())
    symbols = [columns[s // 2] if s % 2 else 3 if s // 2 in at_breaks else 0 for s in found.tolist()]
    lost = [k for k in range(3) if not said & set(range(breaks.blanks_K[k], breaks.blanks_K[k + 1]))]
    price = sum(float(np.diff(breaks.costs_K)[k]) for k in lost)
    scored = float(sum(starred_TC[t, symbol] for t, symbol in enumerate(symbols))) - price
    assert scored == pytest.approx(best, abs=1e-4)


def _rests(path: tuple[int, ...], kept: list[int], spoken: tuple[bool, ...], breaks: Breaks) -> bool:
    """Whether there is a position in the break beside what is left out."""
    for number in range(len(kept) + 1):
        left = kept[number - 1] + 1 if number else 0
        right = kept[number] if number < len(kept) else 4
        if right != left and 2 * number not in path:
            return False
    return True


def test_where_nothing_is_possible_it_says_so() -> None:
    with pytest.raises(ValueError, match="no path"):
        Trellis(random_logprobs(2, 3, 0), np.array([1, 2, 1]), 0, Corridor.whole(2, 3)).path()
    for nothing in (-np.inf, np.nan):
        logprobs_TC = random_logprobs(5, 3, 0)
        logprobs_TC[:, 1] = nothing
        with pytest.raises(ValueError, match="no path"):
            Trellis(logprobs_TC, np.array([1]), 0, Corridor.whole(5, 1)).path()
