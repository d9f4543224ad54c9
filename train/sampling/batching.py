"""Batching: micro-batches and steps as a pure function of the utterances, the seed and the epoch.

An optimiser step is a fixed number of micro-batches, whatever the number of workers: workers only share them out. A run
that is resumed, even on more or fewer workers, goes on at the step where it stopped and uses each utterance once an
epoch. Steps have similar cost, and clips of a micro-batch have similar length, so little is padded.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from asr.config import Section
from asr.errors import UserError
from asr.models.processor import LONGEST_LABEL, LONGEST_WINDOW_S

Slice: TypeAlias = "slice[int | None, int | None, int | None]"

_MAX_PADDING = 0.12  # of a micro-batch: a longer clip than this allows begins the next one
_POSITIONS_PER_S = 50
_TOKEN_COST = 2.0  # a token costs about two positions of the encoder: its layers also attend to those, and logits


class BatchingConfig(Section):
    """Settings that group utterances into micro-batches and steps."""

    max_clips: int = Field(8, ge=1)
    """Most clips in a micro-batch; a window of packed utterances is one clip."""
    max_audio_s: float = Field(45.0, ge=LONGEST_WINDOW_S)
    """Most seconds in a micro-batch, padding included: the encoder's memory and time grow with it. Below 60, clips
    in the full window come one by one."""
    max_tokens: int = Field(1024, ge=LONGEST_LABEL)
    """Most tokens in a micro-batch, padding included: the decoder's memory and time grow with it."""
    micro_batches_per_step: int = Field(1, ge=1)
    """Micro-batches of an optimiser step, over all workers."""
    full_window_share: float = Field(0.02, ge=0.0, le=1.0)
    """Share of clips, drawn anew each epoch, that are encoded in the network's whole window. 1 trains as others do."""
    margin_s: float = Field(1.0, ge=0.0)
    """Silence behind a clip, drawn anew each epoch between 0 and this, so that its length gives nothing away."""
    pool_clips: int = Field(256, ge=1)
    """Clips sorted by length together: more pads less, fewer shuffles better."""


@dataclass(frozen=True)
class Items:
    """Items of an epoch, as columns of I items: an item is a run of consecutive utterances, mostly of one.

    first       int64 [I], index of its first utterance
    count       int64 [I], utterances in it
    audio_s     float64 [I], seconds of speech
    tokens      int64 [I], tokens that the decoder takes, prompt and end included
    timestamps  bool [I], whether its label has them; None for none
    previous    int64 [I], utterances ahead of it whose text is its prompt; None for none
    window_s    seconds that the network takes at most at once
    """

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    audio_s: NDArray[np.float64]
    tokens: NDArray[np.int64]
    timestamps: NDArray[np.bool_] | None = None
    previous: NDArray[np.int64] | None = None
    window_s: float = LONGEST_WINDOW_S

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int) -> Item:
        return Item(
            int(self.first[index]),
            int(self.count[index]),
            self.timestamps is not None and bool(self.timestamps[index]),
            0 if self.previous is None else int(self.previous[index]),
        )


@dataclass(frozen=True, slots=True)
class Item:
    """A row of ``Items``."""

    first: int
    count: int = 1
    timestamps: bool = False
    previous: int = 0

    @property
    def utterances(self) -> range:
        """Indices of its utterances."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Items that pass the network together, in a context of ``context_s`` seconds.

    ``own_s`` is the sum of the contexts that each item alone would have. An idle micro-batch, without items, fills up a
    step that has too few for all workers.
    """

    epoch: int
    items: tuple[Item, ...] = ()
    context_s: float = 0.0
    own_s: float = 0.0

    @property
    def utterances(self) -> tuple[int, ...]:
        """Indices of the utterances of all items."""
        return tuple(index for item in self.items for index in item.utterances)


class OptimizerStep(Sequence[MicroBatch]):
    """The micro-batches of an optimiser step, each made on demand: one of a thousand workers asks for one.

    Two steps with equal micro-batches are equal.
    """

    __slots__ = ("_make", "_places")

    def __init__(self, make: Callable[[int], MicroBatch], places: range) -> None:
        self._make, self._places = make, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> MicroBatch: ...

    @overload
    def __getitem__(self, index: Slice) -> list[MicroBatch]: ...

    def __getitem__(self, index: int | Slice) -> MicroBatch | list[MicroBatch]:
        if isinstance(index, slice):
            return [self._make(place) for place in self._places[index]]
        return self._make(self._places[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OptimizerStep) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


class Epoch(Sequence[OptimizerStep]):
    """The steps of an epoch, kept as columns: ten million utterances take some hundred megabytes, not ten gigabytes."""

    def __init__(self, items: Items, config: BatchingConfig, seed: int, epoch: int, window: int = 0) -> None:
        self._items, self._size, self._epoch = items, config.micro_batches_per_step, epoch
        random = np.random.default_rng([seed, epoch, window])
        contexts = items.audio_s + random.uniform(0.0, config.margin_s, len(items))
        contexts[random.random(len(items)) < config.full_window_share] = items.window_s
        self._contexts = np.minimum(contexts, items.window_s)
        shuffled = random.permutation(len(items))
        pools = -(-len(items) // config.pool_clips)
        if len(items) > 2 * config.max_clips:  # all in one pool, each epoch would have the same micro-batches
            pools = max(2, pools)
        pool = np.arange(len(items)) * pools // len(items)
        self._order = shuffled[np.lexsort((self._contexts[shuffled], pool))]
        starts, counts = _micro_batches(self._contexts[self._order], items.tokens[self._order], pool, config)
        starts, counts = _split_to_multiple(starts, counts, self._size)
        cheapest_first = np.argsort(self._costs(starts, counts), kind="stable")
        self._starts, self._counts = starts[cheapest_first], counts[cheapest_first]
        self._steps = random.permutation(len(starts) // self._size)

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> OptimizerStep: ...

    @overload
    def __getitem__(self, index: Slice) -> list[OptimizerStep]: ...

    def __getitem__(self, index: int | Slice) -> OptimizerStep | list[OptimizerStep]:
        if isinstance(index, slice):
            return [self._step(int(number)) for number in self._steps[index]]
        return self._step(int(self._steps[index]))

    def _step(self, number: int) -> OptimizerStep:
        begin = number * self._size
        return OptimizerStep(self._micro_batch, range(begin, begin + self._size))

    def _micro_batch(self, place: int) -> MicroBatch:
        start, count = int(self._starts[place]), int(self._counts[place])
        if not count:
            return MicroBatch(self._epoch)
        chosen = self._order[start : start + count]
        contexts = self._contexts[chosen]
        items = tuple(self._items[index] for index in chosen.tolist())
        return MicroBatch(self._epoch, items, float(contexts.max()), float(contexts.sum()))

    def _costs(self, starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        # Sorted by context, so the last clip has the longest; labels are in any order.
        longest_s = self._contexts[self._order[np.maximum(starts + counts - 1, 0)]]
        tokens = self._items.tokens[self._order]
        bounds = np.stack([starts, starts + counts], axis=1).reshape(-1)
        longest = np.maximum.reduceat(np.append(tokens, 0), bounds)[::2]
        costs: NDArray[np.float64] = counts * (longest_s * _POSITIONS_PER_S + longest * _TOKEN_COST)
        return costs


def plan_epoch(items: Items, config: BatchingConfig, seed: int, epoch: int, window: int = 0) -> Epoch:
    """Return the steps of one epoch, each of ``micro_batches_per_step`` micro-batches, with each item once.

    Raises UserError where there are fewer items than micro-batches in a step.
    """
    if len(items) < config.micro_batches_per_step:
        raise UserError(
            f"batching.micro_batches_per_step is {config.micro_batches_per_step}, but there are {len(items)} clips",
            "use fewer micro-batches in a step",
        )
    return Epoch(items, config, seed, epoch, window)


def _micro_batches(
    contexts: NDArray[np.float64], tokens: NDArray[np.int64], pool: NDArray[np.int64], config: BatchingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first item and the size of each micro-batch, in items sorted by context within their pool."""
    total = len(contexts)
    reach = np.ones(total, np.int64)  # most items of a micro-batch that begins here
    sums = np.concatenate([[0.0], np.cumsum(contexts)])
    longest = tokens.copy()
    alive = np.arange(total)
    for size in range(2, config.max_clips + 1):
        alive = alive[alive + size <= total]
        last = alive + size - 1
        longest[alive] = np.maximum(longest[alive], tokens[last])
        padded_s = contexts[last] * size
        fits = (pool[last] == pool[alive]) & (padded_s <= config.max_audio_s)
        fits &= longest[alive] * size <= config.max_tokens
        fits &= sums[last + 1] - sums[alive] >= (1.0 - _MAX_PADDING) * padded_s
        alive = alive[fits]
        if not len(alive):
            break
        reach[alive] = size
    starts, at, steps = [], 0, reach.tolist()
    while at < total:
        starts.append(at)
        at += steps[at]
    begin = np.array(starts)
    return begin, reach[begin]


def _split_to_multiple(
    starts: NDArray[np.int64], counts: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Halve the largest micro-batches until their number is a multiple of ``size``: a lone clip leaves an idle half."""
    extra = -len(starts) % size
    if not extra:
        return starts, counts
    # As many as there are halvings: one of them is still whole, and so no smaller than any other, at each halving.
    largest = np.argsort(-counts, kind="stable")[:extra]
    parts = [(-int(counts[i]), int(starts[i])) for i in largest]
    heapq.heapify(parts)
    for _ in range(extra):
        negative, start = heapq.heappop(parts)
        left = -negative // 2
        heapq.heappush(parts, (-left, start))
        heapq.heappush(parts, (negative + left, start + left))
    rest = np.ones(len(starts), bool)
    rest[largest] = False
    return (
        np.concatenate([starts[rest], [start for _, start in parts]]).astype(np.int64),
        np.concatenate([counts[rest], [-negative for negative, _ in parts]]).astype(np.int64),
    )
