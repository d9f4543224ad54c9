from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.features import WINDOW_S
from train.feed import Share
from train.plan import MicroBatch, PlanConfig, Step, plan, plan_epoch

DURATIONS = st.lists(st.floats(0.2, 30.0), min_size=1, max_size=120)
CONFIGS = st.builds(
    PlanConfig,
    max_clips=st.integers(1, 9),
    max_audio_s=st.floats(WINDOW_S, 120.0),
    micro_batches_per_step=st.integers(1, 5),
    full_window_share=st.floats(0.0, 1.0),
    margin_s=st.floats(0.0, 2.0),
    pool_clips=st.integers(1, 64),
)


def prompts_like(count: int, seed: int = 0) -> list[float]:
    """Durations as the Italian prompts have them: median 1.6 s, a few over 10 s."""
    return np.clip(np.random.default_rng(seed).lognormal(np.log(1.6), 0.8, count), 0.3, 30.0).tolist()


def batches(steps: Sequence[Step]) -> list[MicroBatch]:
    return [batch for step in steps for batch in step]


@given(DURATIONS, CONFIGS, st.integers(0, 5))
def test_each_utterance_once_an_epoch_and_every_bound_kept(
    durations_s: list[float], config: PlanConfig, epoch: int
) -> None:
    size = config.micro_batches_per_step
    if len(durations_s) < size:
        with pytest.raises(UserError, match="micro_batches_per_step"):
            plan_epoch(durations_s, config, 0, epoch)
        return
    steps = plan_epoch(durations_s, config, 0, epoch)
    assert {len(step) for step in steps} == {size}
    met = Counter(i for batch in batches(steps) for i in batch.utterances)
    assert met == Counter(range(len(durations_s)))
    for batch in batches(steps):
        assert batch.epoch == epoch
        assert len(batch.utterances) <= config.max_clips
        assert len(batch.utterances) <= 1 or len(batch.utterances) * batch.context_s <= config.max_audio_s
        assert all(durations_s[i] <= batch.context_s <= WINDOW_S for i in batch.utterances)
    idle = [batch for batch in batches(steps) if not batch.utterances]
    assert len(idle) < size  # no step is idle as a whole


@given(DURATIONS, st.integers(0, 3))
def test_the_margin_is_kept(durations_s: list[float], epoch: int) -> None:
    alone = PlanConfig(max_clips=1, margin_s=0.5, full_window_share=0.0)
    for batch in batches(plan_epoch(durations_s, alone, 0, epoch)):
        (index,) = batch.utterances
        assert durations_s[index] <= batch.context_s <= durations_s[index] + 0.5


def test_a_pure_function_of_utterances_seed_and_epoch() -> None:
    durations_s, config = prompts_like(200), PlanConfig(micro_batches_per_step=2)
    assert plan_epoch(durations_s, config, 3, 4) == plan_epoch(durations_s, config, 3, 4)
    seen = [plan_epoch(durations_s, config, seed, epoch) for seed in range(3) for epoch in range(4)]
    orders = {tuple(batch.utterances for batch in batches(steps)) for steps in seen}
    assert len(orders) == len(seen)


def test_lone_clips_leave_idle_micro_batches_where_they_cannot_fill_a_step() -> None:
    steps = plan_epoch([30.0] * 5, PlanConfig(max_clips=1, micro_batches_per_step=4), 0, 0)
    assert len(steps) == 2
    assert sorted(len(batch.utterances) for batch in batches(steps)) == [0, 0, 0, 1, 1, 1, 1, 1]


def test_the_share_of_full_windows_is_as_asked() -> None:
    durations_s = prompts_like(2000)
    full = 0
    for epoch in range(5):
        planned = batches(plan_epoch(durations_s, PlanConfig(full_window_share=0.05), 0, epoch))
        full += sum(len(batch.utterances) for batch in planned if batch.context_s == WINDOW_S)
    assert 0.04 <= full / 10_000 <= 0.06
    everything = batches(plan_epoch(durations_s, PlanConfig(full_window_share=1.0), 0, 0))
    assert {batch.context_s for batch in everything} == {WINDOW_S}


def test_little_is_padding_and_steps_cost_alike() -> None:
    durations_s = prompts_like(450)
    config = PlanConfig(full_window_share=0.0, margin_s=0.0, micro_batches_per_step=2)
    steps = plan_epoch(durations_s, config, 0, 0)
    heard = sum(len(batch.utterances) * batch.context_s for batch in batches(steps))
    assert 1 - sum(durations_s) / heard < 0.15
    for first, second in steps:  # neither worker waits long for the other
        low, high = sorted(len(batch.utterances) * batch.context_s for batch in (first, second))
        assert high - low < config.max_audio_s / 4


@given(DURATIONS, CONFIGS, st.integers(0, 70))
def test_going_on_at_a_step_is_the_rest_of_the_whole_run(
    durations_s: list[float], config: PlanConfig, first_step: int
) -> None:
    durations_s = durations_s * config.micro_batches_per_step  # enough for a step
    whole = list(islice(plan(durations_s, config, 1), first_step + 5))
    assert list(islice(plan(durations_s, config, 1, first_step), 5)) == whole[first_step:]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_out_the_same_steps(workers: int) -> None:
    config = PlanConfig(micro_batches_per_step=6)
    for step in islice(plan(prompts_like(100), config, 0), 8):
        shares = [Share(rank, workers).of(step) for rank in range(workers)]
        assert {len(share) for share in shares} == {6 // workers}
        assert Counter(batch for share in shares for batch in share) == Counter(step)


def test_fewer_utterances_than_micro_batches_is_a_persons_mistake() -> None:
    with pytest.raises(UserError, match=r"micro_batches_per_step is 4, but there are 3 utterances"):
        next(plan([1.0, 2.0, 3.0], PlanConfig(micro_batches_per_step=4), 0))
