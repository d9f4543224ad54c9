from __future__ import annotations

from dataclasses import replace

import pytest
import ray

from train.events import Progress, ProgressBoard, Scored

AT_10 = Progress(
    step=10, max_steps=30, loss=1.5, learning_rate=1e-3, seconds=20.0, audio_s=300.0, wait_s=0.5, resumed_at=0
)
SCORED = Scored(10, "validation", {"wer": {"rate": 0.25}})


def test_speed_waiting_and_time_left() -> None:
    assert (AT_10.audio_per_s, AT_10.wait_share, AT_10.left_s) == (15.0, 0.025, 40.0)
    assert replace(AT_10, step=30).left_s == 0.0


def test_nothing_is_divided_by_nothing() -> None:
    start = replace(AT_10, step=0, seconds=0.0, audio_s=0.0)
    assert (start.audio_per_s, start.wait_share, start.left_s) == (0.0, 0.0, 0.0)


@pytest.mark.usefixtures("ray_cluster")
def test_the_board_holds_what_was_not_fetched_in_the_order_it_came() -> None:
    progress = ray.remote(num_cpus=0)(ProgressBoard).remote()
    assert ray.get(progress.fetch.remote(0)) == []
    steps = [replace(AT_10, step=step) for step in (1, 2, 3)]
    for entry in (*steps, SCORED):
        progress.post.remote(entry)
    everything = ray.get(progress.fetch.remote(0))
    assert [entry for _, entry in everything] == [*steps, SCORED]
    assert ray.get(progress.fetch.remote(0)) == everything  # an answer that was lost is given again
    assert ray.get(progress.fetch.remote(everything[1][0])) == everything[2:]
    assert ray.get(progress.fetch.remote(everything[-1][0])) == []


def test_evaluations_stay_on_the_board_with_those_of_earlier_attempts() -> None:
    earlier = replace(SCORED, step=5)
    progress = ProgressBoard([earlier])
    progress.post(AT_10)
    progress.post(SCORED)
    (_, (number, _)) = progress.fetch(0)
    progress.fetch(number)
    assert progress.scored() == [earlier, SCORED]


def test_a_board_that_nobody_reads_keeps_the_newest() -> None:
    progress = ProgressBoard()
    for step in range(1, 10_101):
        progress.post(replace(AT_10, step=step))
    waiting = [entry for _, entry in progress.fetch(0)]
    assert len(waiting) == 10_000
    assert isinstance(waiting[0], Progress)
    assert waiting[0].step == 101
