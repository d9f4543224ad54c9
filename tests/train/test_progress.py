from __future__ import annotations

from dataclasses import replace

import pytest
import ray

from train.progress import Progress, ProgressBoard

AT_10 = Progress(
    step=10, max_steps=30, loss=1.5, learning_rate=1e-3, seconds=20.0, audio_s=300.0, wait_s=0.5, resumed_at=0
)


def test_speed_and_time_left() -> None:
    assert (AT_10.audio_per_s, AT_10.left_s) == (15.0, 40.0)
    assert replace(AT_10, step=30).left_s == 0.0


def test_nothing_is_divided_by_nothing() -> None:
    start = replace(AT_10, step=0, seconds=0.0, audio_s=0.0)
    assert (start.audio_per_s, start.left_s) == (0.0, 0.0)


@pytest.mark.usefixtures("ray_cluster")
def test_the_board_keeps_the_newest() -> None:
    board = ray.remote(num_cpus=0)(ProgressBoard).remote()
    assert ray.get(board.newest.remote()) is None
    for step in (1, 2, 3):
        board.post.remote(replace(AT_10, step=step))
    assert ray.get(board.newest.remote()) == replace(AT_10, step=3)
