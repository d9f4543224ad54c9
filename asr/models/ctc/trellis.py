"""The most probable path of given tokens through the emissions of a CTC network (Viterbi).

A path is at each position in a token or in the blank before, between or behind tokens. Blank ``i`` stands before
token ``i``; the state 2 i is blank ``i`` and the state 2 i + 1 is token ``i``. Scores are natural logarithms, summed
in float64: over hours of positions float32 would lose what is decided by.

Legend: T positions, C columns of emissions, L tokens, K breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELLS = 40_000_000
"""Tokens times positions that are kept to find the way back, 3 bytes each. More are computed twice."""

Indices = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Corridor:
    """The tokens [``firsts_T``, ``ends_T``) that a path may be in at each position; neither ever falls.

    It may be in the blanks before and behind these as well.
    """

    firsts_T: Indices
    ends_T: Indices

    @classmethod
    def whole(cls, positions: int, tokens: int) -> Corridor:
        """Return the corridor of all tokens that can be reached, and from which the end can be."""
        left_T = np.arange(positions, 0, -1)
        return cls(np.maximum(tokens - left_T, 0), np.minimum(np.arange(1, positions + 1), tokens))


@dataclass(frozen=True)
class Breaks:
    """The blanks where speech may be that has no text, and tokens between two of them that may be unspoken.

    ``blanks_K`` rise and have the first and the last blank. There every position scores 0, whatever is heard. To leave
    out the tokens up to break k costs ``costs_K[k] - costs_K[k - 1]``.
    """

    blanks_K: Indices
    costs_K: Scores


_NO_BREAKS = Breaks(np.zeros(0, dtype=np.int64), np.zeros(0))


class Trellis:
    """Finds the best path of ``columns_L`` through ``logprobs_TC``; the column ``blank`` is no token's.

    Memory: ``cells`` * 3 bytes, and 16 bytes a token for every ``cells`` of the corridor.
    """

    def __init__(
        self,
        logprobs_TC: NDArray[np.float32] | NDArray[np.float16],
        columns_L: Indices,
        blank: int,
        corridor: Corridor,
        breaks: Breaks = _NO_BREAKS,
        cells: int = CELLS,
    ) -> None:
        self._logprobs_TC, self._columns_L, self._blank = logprobs_TC, columns_L, blank
        self._corridor, self._breaks = corridor, breaks
        # Between two of the same symbol there has to be a blank, or a break.
        same_L = np.concatenate(([True], columns_L[1:] == columns_L[:-1]))
        self._jump_L = np.where(same_L, -np.inf, 0.0)
        self._firsts_K = np.searchsorted(breaks.blanks_K, corridor.firsts_T)
        self._ends_K = np.searchsorted(breaks.blanks_K, corridor.ends_T, side="right")
        widths_T = corridor.ends_T - corridor.firsts_T + 1  # of blanks: one more than tokens
        breaks_T = self._ends_K - self._firsts_K
        self._chunks = _chunks(np.maximum(widths_T, breaks_T), cells)
        most, most_breaks = (
            max(int(n_T[slice(*chunk)].sum()) for chunk in self._chunks) for n_T in (widths_T, breaks_T)
        )
        self._bits = [np.empty(size, dtype=bool) for size in (most, most, most, most_breaks)]
        self._blanks = np.full(len(columns_L) + 1, -np.inf)
        self._tokens = np.full(len(columns_L) + 1, -np.inf)  # token i in [i + 1]; nothing is before the first

    def path(self) -> Indices:
        """Return the state at each position [T]. Raises ValueError where every path has the probability 0.

        It is exact: no path within the corridor scores more. NaN anywhere on it is such a probability, too.
        """
        self._blanks[0] = 0.0
        starts: list[tuple[Scores, Scores]] = []
        for chunk in self._chunks:
            if len(self._chunks) > 1:
                starts.append((self._blanks.copy(), self._tokens.copy()))
            ways = self._run(*chunk)
        last = len(self._columns_L)
        state = 2 * last - int(self._tokens[last] > self._blanks[last])
        if not np.isfinite(max(self._blanks[last], self._tokens[last])):
            raise ValueError("no path through these emissions has a probability above 0")
        states_T = np.zeros(len(self._logprobs_TC), dtype=np.int64)
        for number in reversed(range(len(self._chunks))):
            if number < len(self._chunks) - 1:
                self._blanks, self._tokens = starts[number]
                ways = self._run(*self._chunks[number])
            state = self._trace(*self._chunks[number], ways, state, states_T)
        return states_T

    def _run(self, first: int, end: int) -> _Ways:
        """Carry the scores over the positions [first, end)."""
        firsts_T, ends_T = self._corridor.firsts_T.tolist(), self._corridor.ends_T.tolist()
        ways = _Ways.of(self._corridor, first, end, self._ends_K - self._firsts_K, self._bits)
        blanks, tokens = self._blanks, self._tokens
        for t in range(first, end):
            low, high = firsts_T[t], ends_T[t]
            at = int(ways.offsets[t - first])
            row_C = self._logprobs_TC[t].astype(np.float64)
            kept, before = tokens[low + 1 : high + 1], blanks[low:high]
            jump = tokens[low:high] + self._jump_L[low:high]
            np.greater(before, kept, out=ways.from_blank[at : at + high - low])
            best = np.maximum(kept, before)
            np.greater(jump, best, out=ways.from_token[at : at + high - low])
            np.maximum(best, jump, out=best)
            silent, ended = blanks[low : high + 1], tokens[low : high + 1]
            np.greater(ended, silent, out=ways.ended[at : at + high - low + 1])
            np.maximum(silent, ended, out=silent)
            free = self._leave_out(t, int(ways.breaks[t - first]), ways)
            silent += row_C[self._blank]
            if free is not None:
                blanks[self._breaks.blanks_K[self._firsts_K[t] : self._ends_K[t]]] = free
            np.add(best, row_C.take(self._columns_L[low:high], mode="clip"), out=kept)  # all are within it
            if t and low > firsts_T[t - 1]:  # left behind
                tokens[firsts_T[t - 1] + 1 : low + 1] = -np.inf
                blanks[firsts_T[t - 1] : low] = -np.inf
        return ways

    def _leave_out(self, t: int, at: int, ways: _Ways) -> Scores | None:
        """Return the scores of the breaks in the corridor, each entered from those before it where that is better."""
        first, end = int(self._firsts_K[t]), int(self._ends_K[t])
        if first == end:
            return None
        own_K, costs_K = self._blanks[self._breaks.blanks_K[first:end]], self._breaks.costs_K[first:end]
        paid_K = own_K + costs_K
        best_K = np.maximum.accumulate(paid_K)
        np.greater(best_K, paid_K, out=ways.left_out[at : at + end - first])
        return np.where(best_K > paid_K, best_K - costs_K, own_K)

    def _trace(self, first: int, end: int, ways: _Ways, state: int, states_T: Indices) -> int:
        """Write the path's states at [first, end), which ends in ``state``; return the state before it."""
        for t in range(end - 1, first - 1, -1):
            token, low = state >> 1, int(self._corridor.firsts_T[t])
            at = int(ways.offsets[t - first]) + token - low
            if state & 1:
                states_T[t] = state
                state -= 2 if ways.from_token[at] else int(ways.from_blank[at])
                continue
            token = self._entered(t, token, int(ways.breaks[t - first]), ways)
            states_T[t] = state = 2 * token
            state -= int(ways.ended[int(ways.offsets[t - first]) + token - low])
        return state

    def _entered(self, t: int, blank: int, at: int, ways: _Ways) -> int:
        """Return the break that tokens were left out from at ``t`` to come to ``blank``, or itself."""
        first, end = int(self._firsts_K[t]), int(self._ends_K[t])
        number = first + int(np.searchsorted(self._breaks.blanks_K[first:end], blank))
        if number == end or self._breaks.blanks_K[number] != blank:
            return blank
        while ways.left_out[at + number - first]:
            number -= 1
        return int(self._breaks.blanks_K[number])


@dataclass(frozen=True)
class _Ways:
    """How the best paths of a chunk came to each state, cell by cell from ``offsets`` and ``breaks`` on."""

    offsets: Indices
    breaks: Indices
    from_blank: NDArray[np.bool_]
    from_token: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    left_out: NDArray[np.bool_]

    @classmethod
    def of(
        cls, corridor: Corridor, first: int, end: int, breaks_T: Indices, bits: Sequence[NDArray[np.bool_]]
    ) -> _Ways:
        """Return them for the positions [first, end), kept in ``bits``, which chunks use one after another."""
        widths = corridor.ends_T[first:end] - corridor.firsts_T[first:end] + 1
        offsets, breaks = (np.concatenate(([0], np.cumsum(each))) for each in (widths, breaks_T[first:end]))
        return cls(offsets, breaks, *bits)


def _chunks(widths_T: Indices, cells: int) -> Sequence[tuple[int, int]]:
    """Return the positions in stretches [first, end) of up to ``cells`` cells, or of one position."""
    sums_T = np.cumsum(widths_T)
    chunks: list[tuple[int, int]] = []
    first = 0
    while first < len(widths_T):
        before = int(sums_T[first - 1]) if first else 0
        end = max(int(np.searchsorted(sums_T, before + cells, side="right")), first + 1)
        chunks.append((first, end))
        first = end
    return chunks
