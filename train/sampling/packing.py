"""Packing: neighbouring utterances as one window of up to 30 s, with timestamps and the text before.

Utterances are neighbours where they follow each other in one source, in one language, of one speaker and recording as
far as these are known. Windows end at other utterances in each epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from asr.config import Section
from asr.models.processor import LONGEST_WINDOW_S
from train.sampling.batching import Items
from train.sampling.mixing import Runs

_SLACK_S = 0.05  # manifests round durations, and the network takes no more than 30 s
_TIMES = 2  # tokens of a segment's start and end


class Packing(Section):
    """``packing: 30s`` for windows of that length, or these keys. Off where ``window_s`` is not set."""

    window_s: float | None = Field(None, gt=0.0, le=LONGEST_WINDOW_S)
    """Most seconds in a window. How full one is, from half of this on, is drawn anew each epoch."""
    timestamp_share: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the windows that are trained with timestamps; the others without. Whisper itself saw both."""
    previous_text_share: float = Field(0.0, ge=0.0, le=1.0)
    """Share of the windows that have the text before them, up to 223 tokens, as a prompt that is not scored."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: object) -> object:
        if isinstance(given, str) and given.endswith("s"):
            return {"window_s": given.removesuffix("s")}
        return {"window_s": given} if isinstance(given, int | float) else given


@dataclass(frozen=True)
class ExampleLimits:
    """Limits of an example: ``window_s`` seconds of audio, and the tokens of its label.

    ``around`` counts prompt and end around the text, ``most`` all of the label. At most ``previous`` tokens of the text
    before stand ahead of it; they count as well. ``has_times`` says whether it may hold times, ``tokens_cost`` whether
    a micro-batch must have room for its tokens beside the sound.
    """

    around: int
    most: int
    previous: int
    window_s: float
    has_times: bool = True
    tokens_cost: bool = True


@dataclass(frozen=True)
class UtteranceColumns:
    """Columns that the order of training depends on, for utterances in the order of their source.

    audio_s  float64 [U], seconds
    tokens   int64 [U], tokens of the text alone
    group    int64 [U], ascending: equal for utterances that may share a window
    """

    audio_s: NDArray[np.float64]
    tokens: NDArray[np.int64]
    group: NDArray[np.int64]

    def part(self, begin: int, end: int) -> UtteranceColumns:
        """Return the columns of some utterances."""
        return UtteranceColumns(self.audio_s[begin:end], self.tokens[begin:end], self.group[begin:end])


def windows(columns: UtteranceColumns, packing: Packing, limits: ExampleLimits, random: np.random.Generator) -> Runs:
    """Return windows in the order of the source: the first utterance of each, and the number of its utterances."""
    count = len(columns.audio_s)
    if packing.window_s is None or count == 0:
        return np.arange(count), np.ones(count, np.int64)
    ends_s = np.concatenate([[0.0], np.cumsum(columns.audio_s)])
    ends_tokens = np.concatenate([[0], np.cumsum(columns.tokens + _TIMES)])
    window_s = max(packing.window_s - _SLACK_S, 0.0)
    targets_s = random.uniform(window_s / 2, window_s, count)
    # For each utterance: where the window would end that began there. Then only the beginnings that are reached count.
    last = np.minimum(
        np.searchsorted(ends_s, ends_s[:-1] + targets_s, side="right") - 1,
        np.searchsorted(ends_tokens, ends_tokens[:-1] + limits.most - limits.around, side="right") - 1,
    )
    last = np.minimum(last, np.searchsorted(columns.group, columns.group, side="right"))
    following = np.maximum(last, np.arange(count) + 1).tolist()
    starts, at = [], 0
    while at < count:
        starts.append(at)
        at = following[at]
    first = np.array(starts)
    return first, np.diff(first, append=count)


def items(
    runs: Runs, columns: UtteranceColumns, packing: Packing, limits: ExampleLimits, random: np.random.Generator
) -> Items:
    """Return the items of an epoch: each run with its seconds, its tokens, its timestamps and its text before."""
    first, count = runs
    stop = first + count
    ends_s = np.concatenate([[0.0], np.cumsum(columns.audio_s)])
    ends_tokens = np.concatenate([[0], np.cumsum(columns.tokens)])
    label = ends_tokens[stop] - ends_tokens[first] + limits.around
    if not limits.tokens_cost:
        label = np.zeros_like(label)
    audio_s = np.where(count == 1, columns.audio_s[first], ends_s[stop] - ends_s[first])
    if packing.window_s is None:
        return Items(first, count, audio_s, label, window_s=limits.window_s)
    with_times = label + _TIMES * count - 1  # they take the place of the flag that there are none
    timestamps = (random.random(len(first)) < packing.timestamp_share) & (with_times <= limits.most) & limits.has_times
    label = np.where(timestamps, with_times, label)
    room = np.minimum(limits.previous, limits.most - label - 1)
    earliest = np.searchsorted(ends_tokens, ends_tokens[first] - room, side="left")
    earliest = np.maximum(earliest, np.searchsorted(columns.group, columns.group[first], side="left"))
    wanted = random.random(len(first)) < packing.previous_text_share
    previous = np.where(wanted & (room > 0), np.maximum(first - earliest, 0), 0)
    before = ends_tokens[first] - ends_tokens[first - previous]
    return Items(first, count, audio_s, label + before + (previous > 0), timestamps, previous, limits.window_s)
