from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.features import WINDOW_S
from asr.audio.probe import Length, probe
from asr.data.sources.prompts import fetch, utterances
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.models.whisper.tokens import MAX_TOKENS
from tests.train.padding import padding
from train.sampling.batching import BatchingConfig, Item, Items, MicroBatch, OptimizerStep, plan_epoch

CONFIGS = st.builds(
    BatchingConfig,
    max_clips=st.integers(1, 9),
    max_audio_s=st.floats(WINDOW_S, 120.0),
    max_tokens=st.integers(MAX_TOKENS, 2000),
    micro_batches_per_step=st.integers(1, 5),
    full_window_share=st.floats(0.0, 1.0),
    margin_s=st.floats(0.0, 2.0),
    pool_clips=st.integers(1, 64),
)


def alone(durations_s: Iterable[float], tokens: Iterable[int] | None = None) -> Items:
    """One utterance each."""
    audio_s = np.array(list(durations_s), float)
    size = len(audio_s)
    return Items(
        np.arange(size), np.ones(size, int), audio_s, np.full(size, 20) if tokens is None else np.array(list(tokens))
    )


@st.composite
def corpora(draw: st.DrawFn) -> Items:
    size = draw(st.integers(1, 120))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    return alone(random.uniform(0.2, 30.0, size), random.integers(3, MAX_TOKENS + 1, size))


def prompts_like(count: int, seed: int = 0) -> Items:
    """Durations as the Italian prompts have them: median 1.6 s, a few over 10 s."""
    return alone(np.clip(np.random.default_rng(seed).lognormal(np.log(1.6), 0.8, count), 0.3, 30.0))


def batches(steps: Iterable[OptimizerStep]) -> list[MicroBatch]:
    return [batch for step in steps for batch in step]


@pytest.mark.medium
@given(corpora(), CONFIGS, st.integers(0, 5))
def test_each_utterance_once_an_epoch_and_every_bound_kept(items: Items, config: BatchingConfig, epoch: int) -> None:
    size = config.micro_batches_per_step
    if len(items) < size:
        with pytest.raises(UserError, match="micro_batches_per_step"):
            plan_epoch(items, config, 0, epoch)
        return
    steps = plan_epoch(items, config, 0, epoch)
    assert {len(step) for step in steps} == {size}
    assert Counter(i for batch in batches(steps) for i in batch.utterances) == Counter(range(len(items)))
    for batch in batches(steps):
        clips = len(batch.items)
        assert batch.epoch == epoch
        assert clips <= config.max_clips
        assert clips <= 1 or clips * batch.context_s <= config.max_audio_s + 1e-9
        assert clips <= 1 or clips * max(items.tokens[i] for i in batch.utterances) <= config.max_tokens
        assert all(items.audio_s[i] <= batch.context_s <= WINDOW_S for i in batch.utterances)
        assert sum(items.audio_s[i] for i in batch.utterances) <= batch.own_s + 1e-9 <= clips * batch.context_s + 1e-6
    idle = [batch for batch in batches(steps) if not batch.items]
    assert len(idle) < size  # no step is idle as a whole


@pytest.mark.medium
@given(corpora(), st.integers(0, 3))
def test_the_margin_is_kept(items: Items, epoch: int) -> None:
    config = BatchingConfig(max_clips=1, margin_s=0.5, full_window_share=0.0)
    for batch in batches(plan_epoch(items, config, 0, epoch)):
        (index,) = batch.utterances
        assert items.audio_s[index] <= batch.context_s <= items.audio_s[index] + 0.5


def test_a_pure_function_of_items_seed_and_epoch_and_no_two_epochs_alike() -> None:
    items = prompts_like(200)
    config = BatchingConfig(micro_batches_per_step=2, margin_s=0.0, full_window_share=0.0)  # nothing but the shuffle
    assert list(plan_epoch(items, config, 3, 4)) == list(plan_epoch(items, config, 3, 4))
    seen = [plan_epoch(items, config, *key) for key in np.ndindex(3, 4, 2)]
    orders = {tuple(batch.utterances for batch in batches(steps)) for steps in seen}
    compositions = {frozenset(frozenset(batch.utterances) for batch in batches(steps)) for steps in seen}
    assert len(orders) == len(compositions) == len(seen)


def test_windows_of_several_utterances_travel_as_one_clip() -> None:
    items = Items(
        np.array([0, 3]),
        np.array([3, 1]),
        np.array([9.0, 8.0]),
        np.array([40, 30]),
        np.array([True, False]),
        np.array([0, 2]),
    )
    (batch,) = batches(plan_epoch(items, BatchingConfig(full_window_share=0.0), 0, 0))
    assert set(batch.items) == {Item(0, 3, True, 0), Item(3, 1, False, 2)}
    assert sorted(batch.utterances) == [0, 1, 2, 3]


def test_lone_clips_leave_idle_micro_batches_where_they_cannot_fill_a_step() -> None:
    steps = plan_epoch(alone([30.0] * 5), BatchingConfig(max_clips=1, micro_batches_per_step=4), 0, 0)
    assert len(steps) == 2
    assert sorted(len(batch.items) for batch in batches(steps)) == [0, 0, 0, 1, 1, 1, 1, 1]


def test_the_share_of_full_windows_is_as_asked() -> None:
    items = prompts_like(2000)
    full = 0
    for epoch in range(5):
        planned = batches(plan_epoch(items, BatchingConfig(full_window_share=0.05), 0, epoch))
        full += sum(len(batch.items) for batch in planned if batch.context_s == WINDOW_S)
    assert 0.04 <= full / 10_000 <= 0.06
    everything = batches(plan_epoch(items, BatchingConfig(full_window_share=1.0), 0, 0))
    assert {batch.context_s for batch in everything} == {WINDOW_S}


@pytest.mark.medium
def test_less_than_a_tenth_is_padding_on_the_italian_prompts() -> None:
    good, _ = utterances("it", fetch("it", cache_root()))
    items = alone(min((probe(clip.audio, container="g722") or Length(0.0, False)).seconds, WINDOW_S) for clip in good)
    assert len(items) > 500
    for epoch in range(5):
        assert padding(plan_epoch(items, BatchingConfig(), 0, epoch)) < 0.1
        plain = BatchingConfig(margin_s=0.0, full_window_share=0.0)
        steps = plan_epoch(items, plain, 0, epoch)
        assert padding(steps) < 0.1
        decoded_s = sum(len(batch.items) * batch.context_s for batch in batches(steps))
        assert padding(steps) == pytest.approx(1 - items.audio_s.sum() / decoded_s)  # as anybody would reckon it


def test_a_longer_label_costs_as_longer_speech_does() -> None:
    """Steps hold micro-batches of like cost: those of many tokens are not beside those of few."""
    tokens = np.where(np.arange(600) % 2, 400, 5)
    config = BatchingConfig(max_clips=2, micro_batches_per_step=2, full_window_share=0.0, pool_clips=1)
    steps = plan_epoch(alone([3.0] * 600, tokens), config, 0, 0)
    mixed = sum(len({max(tokens[i] for i in batch.utterances) for batch in step}) > 1 for step in steps)
    assert mixed <= 1


def test_steps_cost_alike() -> None:
    config = BatchingConfig(full_window_share=0.0, margin_s=0.0, micro_batches_per_step=2)
    for first, second in plan_epoch(prompts_like(450), config, 0, 0):  # neither worker waits long for the other
        low, high = sorted(len(batch.items) * batch.context_s for batch in (first, second))
        assert high - low < config.max_audio_s / 4


def test_fewer_clips_than_micro_batches_is_a_persons_mistake() -> None:
    with pytest.raises(UserError, match=r"micro_batches_per_step is 4, but there are 3 clips"):
        plan_epoch(alone([1.0, 2.0, 3.0]), BatchingConfig(micro_batches_per_step=4), 0, 0)


def test_a_worker_has_only_its_own_micro_batches_made() -> None:
    made: list[int] = []

    def make(place: int) -> MicroBatch:
        made.append(place)
        return MicroBatch(0, context_s=float(place))

    step = OptimizerStep(make, range(10, 16))
    assert [batch.context_s for batch in step[1::4]] == [11.0, 15.0]
    assert step[-1].context_s == 15.0 and len(step) == 6
    assert made == [11, 15, 15]
    assert step == OptimizerStep(make, range(10, 16)) != OptimizerStep(make, range(9, 15))
    assert [batch.context_s for batch in step] == [float(place) for place in range(10, 16)]


def test_nothing_heard_is_nothing_padded() -> None:
    assert padding([(MicroBatch(0),)]) == 0.0
