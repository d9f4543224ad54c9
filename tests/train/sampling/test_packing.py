from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from asr.config import Section
from asr.models.whisper.tokens import MAX_PREVIOUS_TOKENS, MAX_TOKENS
from train.sampling.packing import ExampleLimits, Packing, UtteranceColumns, items, windows

LIMITS = ExampleLimits(around=5, most=MAX_TOKENS, previous=MAX_PREVIOUS_TOKENS, window_s=30.0)


class Holder(Section):
    packing: Packing = Packing()


@st.composite
def corpora(draw: st.DrawFn) -> UtteranceColumns:
    size = draw(st.integers(0, 150))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    audio_s = random.uniform(0.1, draw(st.sampled_from([3.0, 30.0])), size)
    tokens = random.integers(1, draw(st.sampled_from([20, MAX_TOKENS - LIMITS.around + 1])), size)
    return UtteranceColumns(audio_s, tokens, np.cumsum(random.random(size) < 0.1))


PACKINGS = st.builds(
    Packing,
    window_s=st.floats(1.0, 30.0),
    timestamp_share=st.floats(0.0, 1.0),
    previous_text_share=st.floats(0.0, 1.0),
)


def test_the_short_form() -> None:
    assert Holder(packing="30s").packing == Packing(window_s=30.0)  # type: ignore[arg-type]
    assert Holder(packing=20).packing.window_s == 20.0  # type: ignore[arg-type]
    assert Holder().packing.window_s is None
    for wrong in ("31s", "half a minute", "abcs", 0):
        with pytest.raises(ValidationError):
            Holder(packing=wrong)  # type: ignore[arg-type]


@pytest.mark.medium
@given(corpora(), PACKINGS, st.integers(0, 3))
def test_windows_hold_each_utterance_once_within_every_bound(
    columns: UtteranceColumns, packing: Packing, seed: int
) -> None:
    random = np.random.default_rng(seed)
    first, count = windows(columns, packing, LIMITS, random)
    assert [i for f, n in zip(first, count, strict=True) for i in range(f, f + n)] == list(range(len(columns.audio_s)))
    planned = items((first, count), columns, packing, LIMITS, random)
    assert packing.window_s is not None
    for number in range(len(planned)):
        item = planned[number]
        mine = slice(item.first, item.first + item.count)
        assert len(set(columns.group[mine])) == 1
        assert planned.audio_s[number] == pytest.approx(columns.audio_s[mine].sum())
        label = columns.tokens[mine].sum() + LIMITS.around + (2 * item.count - 1 if item.timestamps else 0)
        assert label <= MAX_TOKENS
        before = slice(item.first - item.previous, item.first)
        prompt = columns.tokens[before].sum()
        assert prompt <= MAX_PREVIOUS_TOKENS
        assert set(columns.group[before]) <= set(columns.group[mine])
        assert planned.tokens[number] == label + prompt + (item.previous > 0) <= MAX_TOKENS
        if item.count > 1:
            assert planned.audio_s[number] <= packing.window_s


def test_windows_are_filled_and_end_elsewhere_each_time() -> None:
    columns = UtteranceColumns(np.full(1000, 2.0), np.full(1000, 10), np.zeros(1000, int))
    packing = Packing(window_s=30.0, timestamp_share=0.5, previous_text_share=0.25)
    ends = set()
    for seed in range(5):
        random = np.random.default_rng(seed)
        runs = windows(columns, packing, LIMITS, random)
        planned = items(runs, columns, packing, LIMITS, random)
        assert planned.timestamps is not None
        assert planned.previous is not None
        assert planned.audio_s[:-1].min() >= 14.0
        assert 26.0 <= planned.audio_s.max() <= 30.0
        assert 0.3 < planned.timestamps.mean() < 0.7
        assert 0.1 < (planned.previous > 0).mean() < 0.4
        assert planned.previous.max() == 22  # 220 of 223 tokens
        ends.add(tuple(runs[0]))
    assert len(ends) == 5


def test_without_packing_each_utterance_is_alone() -> None:
    columns = UtteranceColumns(np.array([1.0, 2.0, 40.0]), np.array([3, 4, 5]), np.zeros(3, int))
    runs = windows(columns, Packing(), LIMITS, np.random.default_rng(0))
    planned = items(runs, columns, Packing(), LIMITS, np.random.default_rng(0))
    assert [planned[n].utterances for n in range(3)] == [range(0, 1), range(1, 2), range(2, 3)]
    assert planned.tokens.tolist() == [8, 9, 10]
    assert planned.audio_s.tolist() == [1.0, 2.0, 40.0]
    assert not any(planned[n].timestamps or planned[n].previous for n in range(3))
