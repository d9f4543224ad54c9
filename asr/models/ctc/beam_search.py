"""Prefix beam search over CTC emissions (Hannun et al. 2014, arXiv:1408.2873), all prefixes of a position at once.

Legend: T positions, V symbols, K symbols that occur at all (never the blank), B prefixes in the beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class State(Protocol):
    """A reading of a prefix that prefers some continuations: by a language model, or by hot words."""

    @property
    def row_V(self) -> Floats:
        """Bonus (natural log) of each symbol that may follow. The blank's is not read."""

    @property
    def end(self) -> float:
        """Bonus if nothing follows."""

    def after(self, symbol: int) -> State:
        """Return the state of the prefix with one more symbol."""


@dataclass(frozen=True)
class Together:
    """Several states as one: their bonuses are added."""

    states: tuple[State, ...]

    @property
    def row_V(self) -> Floats:
        return np.asarray(np.sum([state.row_V for state in self.states], axis=0), dtype=np.float64)

    @property
    def end(self) -> float:
        return sum(state.end for state in self.states)

    def after(self, symbol: int) -> Together:
        return Together(tuple(state.after(symbol) for state in self.states))


@dataclass(frozen=True)
class BeamOptions:
    """Width of the beam, and what is not followed up. Without the two limits the search is exact but for its width."""

    width: int = 32
    """Prefixes kept from one position to the next."""
    floor: float = -10.0
    """Log probability below which a symbol is not at a position at all, whatever a bonus says."""
    margin: float = 16.0
    """A prefix that scores so much below the best one is dropped."""
    results: int = 1
    """Number of results, at most."""


@dataclass(frozen=True)
class BeamResult:
    """Tokens without blanks and repeats. ``acoustic`` is the log probability that the emissions give them."""

    tokens: tuple[int, ...]
    score: float
    """``acoustic`` and all bonuses."""
    acoustic: float


class _Beam(NamedTuple):
    """Prefixes, as numbers in a ``_Tree``, with log probabilities of the paths that end in a blank and that do not."""

    nodes_B: Ints
    blank_B: Floats
    other_B: Floats


def beam_search(
    logprobs_TV: NDArray[np.float32], blank: int, start: State | None = None, options: BeamOptions | None = None
) -> list[BeamResult]:
    """Return the best texts of a clip, best first; ``start`` is the state of the empty prefix.

    All paths that spell the same prefix are added up. The same emissions give the same result.
    """
    options = options or BeamOptions()
    columns, logprobs_TK = _occurring(logprobs_TV, blank, options.floor)
    tree = _Tree(columns, start)
    beam = _Beam(np.zeros(1, np.int64), np.zeros(1), np.full(1, -np.inf))
    with np.errstate(divide="ignore", invalid="ignore"):
        for logprobs_K, blank_logprob in zip(logprobs_TK, logprobs_TV[:, blank].tolist(), strict=True):
            beam = _step(beam, tree, logprobs_K, blank_logprob, options)
    acoustic_B = np.logaddexp(beam.blank_B, beam.other_B).tolist()
    found = [
        BeamResult(tree.tokens(node), acoustic + tree.bonus_N[node] + tree.end(node), acoustic)
        for node, acoustic in zip(beam.nodes_B.tolist(), acoustic_B, strict=True)
    ]
    found.sort(key=lambda one: (-one.score, one.tokens))
    return found[: options.results]


def _occurring(logprobs_TV: NDArray[np.float32], blank: int, floor: float) -> tuple[Ints, Floats]:
    """Return the symbols that are anywhere above the floor, and their log probabilities, -inf where below it."""
    best_T1 = logprobs_TV.max(axis=1, keepdims=True)
    above_TV = logprobs_TV >= np.minimum(best_T1, floor)  # the best symbol of a position is at it in any case
    above_TV[:, blank] = False
    columns = np.flatnonzero(above_TV.any(axis=0))
    return columns, np.where(above_TV, logprobs_TV, -np.inf)[:, columns].astype(np.float64)


class _Tree:
    """Every prefix that was in the beam, once: number 0 is the empty one, the others hang on that without the last."""

    def __init__(self, columns: Ints, start: State | None) -> None:
        self.columns = columns
        self.children: dict[tuple[int, int], int] = {}
        self.states: list[State | None] = [start]
        self.parents_N = np.full(256, -1)
        self.last_N = np.full(256, -1)  # number of a column
        self.bonus_N = np.zeros(256)
        self.rows_NK = np.zeros((256, len(columns)))
        self._read(0)

    def child(self, node: int, column: int) -> int:
        """Return the number of a prefix with one more symbol."""
        number = self.children.setdefault((node, column), len(self.states))
        if number == len(self.states):
            if number == len(self.bonus_N):
                self._grow()
            state = self.states[node]
            self.states.append(None if state is None else state.after(int(self.columns[column])))
            self.parents_N[number], self.last_N[number] = node, column
            self.bonus_N[number] = self.bonus_N[node] + self.rows_NK[node, column]
            self._read(number)
        return number

    def tokens(self, node: int) -> tuple[int, ...]:
        """Return the symbols of a prefix."""
        columns = []
        while node:
            columns.append(self.last_N[node])
            node = int(self.parents_N[node])
        return tuple(self.columns[columns[::-1]].tolist()) if columns else ()

    def end(self, node: int) -> float:
        """Return the bonus of a prefix that is the whole text."""
        state = self.states[node]
        return 0.0 if state is None else state.end

    def _read(self, number: int) -> None:
        state = self.states[number]
        if state is not None:
            self.rows_NK[number] = state.row_V[self.columns]

    def _grow(self) -> None:
        self.parents_N, self.last_N = np.tile(self.parents_N, 2), np.tile(self.last_N, 2)
        self.bonus_N = np.tile(self.bonus_N, 2)
        self.rows_NK = np.concatenate([self.rows_NK, np.zeros_like(self.rows_NK)])


def _step(beam: _Beam, tree: _Tree, logprobs_K: Floats, blank_logprob: float, options: BeamOptions) -> _Beam:
    """Return the beam after one more position."""
    nodes_B, blank_B, other_B = beam
    last_B, bonus_B = tree.last_N[nodes_B], tree.bonus_N[nodes_B]
    whole_B = np.logaddexp(blank_B, other_B)
    longer_BK = whole_B[:, None] + logprobs_K
    same_other_B = np.full(len(nodes_B), -np.inf)
    some = np.flatnonzero(last_B >= 0)
    again = last_B[some]
    longer_BK[some, again] = blank_B[some] + logprobs_K[again]  # the same symbol twice takes a blank in between
    same_other_B[some] = other_B[some] + logprobs_K[again]
    same_blank_B = whole_B + blank_logprob
    # A prefix and the one without its last symbol may both be in the beam: then there are two ways to the longer one.
    longs, shorts = np.nonzero(tree.parents_N[nodes_B][:, None] == nodes_B)
    ways = longer_BK[shorts, last_B[longs]]
    same_other_B[longs] = np.logaddexp(same_other_B[longs], ways)
    longer_BK[shorts, last_B[longs]] = -np.inf

    same_scores_B = np.logaddexp(same_blank_B, same_other_B) + bonus_B
    longer_scores_BK = longer_BK + (bonus_B[:, None] + tree.rows_NK[nodes_B])
    scores = np.concatenate([same_scores_B, longer_scores_BK.ravel()])
    chosen = _best(scores, options)
    same = chosen[chosen < len(nodes_B)]
    rows, columns = np.divmod(chosen[chosen >= len(nodes_B)] - len(nodes_B), max(len(logprobs_K), 1))
    children = [tree.child(node, column) for node, column in zip(nodes_B[rows].tolist(), columns.tolist(), strict=True)]
    return _Beam(
        np.concatenate([nodes_B[same], np.array(children, np.int64)]),
        np.concatenate([same_blank_B[same], np.full(len(rows), -np.inf)]),
        np.concatenate([same_other_B[same], longer_BK[rows, columns]]),
    )


def _best(scores: Floats, options: BeamOptions) -> Ints:
    """Return the places of the best scores, at most as many as the beam is wide, in their order."""
    places = np.flatnonzero(scores >= max(scores.max() - options.margin, np.finfo(np.float64).min))
    if len(places) > options.width:
        ranks = np.argsort(-scores[places], kind="stable")[: options.width]  # stable: ties fall the same everywhere
        places = np.sort(places[ranks])
    return places


def together(states: Sequence[State | None]) -> State | None:
    """Return the states that there are as one; None if there is none."""
    some = tuple(state for state in states if state is not None)
    if len(some) > 1:
        return Together(some)
    return some[0] if some else None
