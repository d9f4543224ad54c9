from __future__ import annotations

from types import SimpleNamespace

import pytest

from asr.audio.track.packets import PacketAt
from asr.audio.track.steady import steady

TICK_S = 0.001
STEP = 20


def stamps(given: list[int | None]) -> list[int | None]:
    packets = [SimpleNamespace(pts=stamp, dts=stamp, duration=STEP) for stamp in given]
    return [found.packet.pts for found in steady((PacketAt(packet) for packet in packets), TICK_S)]


def run(count: int, start: int = 0) -> list[int | None]:
    return list(range(start, start + count * STEP, STEP))


@pytest.mark.parametrize("jump", [65_536, 256, 120, -256, -3_000, 3_600_000])
@pytest.mark.parametrize("count", [1, 2, 250])
def test_one_wrong_bit_moved_all_that_followed(jump: int, count: int) -> None:
    right = run(1000)
    wrong = [stamp + jump if 300 <= number < 300 + count else stamp for number, stamp in enumerate(right)]
    assert stamps(wrong) == right


def test_two_wrong_clusters_in_a_row() -> None:
    right = run(1000)
    wrong = [stamp + 9_000 * (number // 100 == 3) + 256 * (number // 100 == 5) for number, stamp in enumerate(right)]
    assert stamps(wrong) == right


@pytest.mark.parametrize("pause", [110, 1_000, 16_000, 3_600_000])
def test_a_pause_is_believed(pause: int) -> None:
    given = run(500) + run(500, 500 * STEP + pause)
    assert stamps(given) == given


def test_pauses_one_after_the_other_are_believed() -> None:
    """As of a speaker who sends nothing while he listens."""
    given = [stamp for number in range(60) for stamp in run(10, number * 600)]
    assert stamps(given) == given


@pytest.mark.parametrize("again", [0, 5_000])
def test_a_clock_that_begins_anew_is_left_to_who_places_sound(again: int) -> None:
    given = run(500) + run(500, again)
    assert stamps(given) == given


def test_a_pause_at_the_end_and_packets_without_stamps() -> None:
    given = [*run(10), None, *run(3, 900), None]
    assert stamps(given) == given
    assert stamps([]) == []
