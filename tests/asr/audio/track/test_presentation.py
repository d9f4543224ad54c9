from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.track.presentation import TOLERANCE_S, Clock, Stretches

TICK_S = 0.001
FRAME_S = 0.02


@dataclass
class Frame:
    pts: int | None
    samples: int = 320
    sample_rate: int = 16_000


class Lost(bytes):
    """A packet as the clock reads one: its bytes, and when it should have been heard."""

    pts: int | None
    duration: int = 20
    size: int = 100


def lost(pts: int | None, size: int = 100, data: bytes = b"\0" * 20) -> Lost:
    packet = Lost(data)
    packet.pts, packet.size = pts, size
    return packet


def run(clock: Clock, stamps: list[int | None]) -> list[float]:
    return [round(clock.place(Frame(stamp)), 3) for stamp in stamps]


def test_frames_that_follow_each_other_have_nothing_between() -> None:
    assert run(Clock("matroska,webm", TICK_S, 0.0), [0, 20, 40, None, 80]) == [0.0] * 5


def test_a_jump_is_silence_and_no_damage_where_packets_may_pause() -> None:
    clock = Clock("matroska,webm", TICK_S, 0.0)
    assert run(clock, [0, 20, 16_040, 16_060]) == [0.0, 0.0, 16.0, 0.0]
    assert clock.paused.told() == "from 0.04 to 16.04 s" and not clock.damaged.found


def test_a_jump_in_a_format_without_pauses_is_damage() -> None:
    clock = Clock("ogg", TICK_S, 0.0)
    assert run(clock, [0, 20, 1_040]) == [0.0, 0.0, 1.0]
    assert clock.damaged.told() == "from 0.04 to 1.04 s" and not clock.paused.found


def test_time_zero_is_where_the_earliest_track_begins() -> None:
    late = Clock("mov,mp4,m4a,3gp,3g2,mj2", TICK_S, 1.4)
    assert run(late, [5_400]) == [4.0]
    assert not late.paused.found and late.now_s == 4.0 + FRAME_S


@given(st.lists(st.integers(-90, 90), min_size=2, max_size=200))
def test_jitter_below_the_tolerance_changes_nothing(jitter: list[int]) -> None:
    stamps: list[int | None] = [20 * number + late // 2 for number, late in enumerate(jitter)]
    stamps[0] = 0
    assert sum(run(Clock("matroska,webm", TICK_S, 0.0), stamps)) == 0.0


@given(st.lists(st.integers(0, 400), min_size=1, max_size=100))
def test_no_frame_is_further_from_its_time_than_the_tolerance(pauses: list[int]) -> None:
    clock, stamp = Clock("matroska,webm", TICK_S, 0.0), 0
    for pause in [0, *pauses]:
        stamp += pause
        clock.place(Frame(stamp))
        assert abs(clock.now_s - FRAME_S - stamp * TICK_S) <= TOLERANCE_S + 1e-6
        stamp += 20


def test_a_clock_that_goes_back_begins_anew() -> None:
    clock = Clock("mpegts", TICK_S, 0.0)
    assert run(clock, [0, 200, 0, 20, 5_040]) == [0.0, 0.18, 0.0, 0.0, 5.0]


def test_what_is_before_a_track_is_no_damage_where_decoding_begins_in_the_middle() -> None:
    for lead, damaged_s in ((True, 0.0), (False, 1.0)):
        clock = Clock("ogg", TICK_S, 0.0)
        clock.begin(3.0, lead)
        assert run(clock, [4_000]) == [1.0] and clock.damaged.total_s == damaged_s


def test_a_lost_packet_is_exactly_as_long_as_the_time_stamps_say() -> None:
    clock = Clock("mov,mp4,m4a,3gp,3g2,mj2", TICK_S, 0.0)
    clock.place(Frame(0))
    clock.lose(lost(20))
    assert round(clock.place(Frame(40)), 3) == 0.02
    assert clock.damaged.told() == "from 0.02 to 0.04 s"


def test_bytes_tell_the_time_where_frames_are_only_counted() -> None:
    clock = Clock("mp3", TICK_S, 0.0)
    for stamp in (0, 20):
        clock.keep(lost(0))
        clock.place(Frame(stamp))
    clock.lose(lost(40, size=5_000), junk=True)  # a hundred bytes are 20 ms
    assert run(clock, [60, 80]) == [1.0, 0.0]
    assert clock.damaged.told() == "from 0.04 to 1.04 s"


def test_what_is_no_sound_takes_no_time() -> None:
    clock = Clock("mp3", TICK_S, 0.0)
    clock.keep(lost(0))
    clock.place(Frame(0))
    clock.skip(50_000)
    clock.ignore(lost(20))
    assert run(clock, [40, 60]) == [0.0, 0.0] and not clock.damaged.found


def test_bytes_that_were_thrown_away_take_the_time_of_as_much_sound() -> None:
    clock = Clock("aac", TICK_S, 0.0)
    clock.keep(lost(0))
    clock.place(Frame(0))
    clock.lose(lost(20))
    clock.skip(1_000)  # a hundred bytes are 20 ms
    assert run(clock, [40, 60]) == [0.22, 0.0] and clock.damaged.told() == "from 0.02 to 0.24 s"


def test_sound_that_came_in_no_packet_is_damage_though_packets_may_pause() -> None:
    clock = Clock("avi", TICK_S, 0.0)
    clock.place(Frame(0))
    clock.miss(0.0)
    clock.place(Frame(20))
    clock.miss(0.04)  # below what jitter may be
    assert run(clock, [80]) == [0.04] and clock.damaged.told() == "from 0.04 to 0.08 s"


def test_one_clock_goes_on_behind_another() -> None:
    clock, behind = Clock("ogg", TICK_S, 0.0), Clock("ogg", TICK_S / 3, 0.0)
    run(clock, [0, 20])
    run(behind, [0, 3_000])
    clock.follow(behind)
    assert clock.now_s == pytest.approx(0.04 + 1.02) and clock.damaged.told() == "from 0.06 to 1.04 s"


def test_junk_in_front_is_no_sound() -> None:
    clock = Clock("mp3", TICK_S, 0.0)
    clock.lose(lost(0))
    assert run(clock, [20, 40]) == [0.0, 0.0] and not clock.damaged.found


def test_junk_behind_the_end_is_no_sound_and_lost_packets_there_are() -> None:
    for name, until_s, end_s in (("mp3", 1.0, 0.02), ("mov,mp4", 1.0, 0.06), ("mov,mp4", 0.05, 0.05)):
        clock = Clock(name, TICK_S, 0.0)
        clock.place(Frame(0))
        clock.lose(lost(20))
        clock.lose(lost(40))
        clock.finish(until_s)
        assert clock.now_s == pytest.approx(end_s)
        assert clock.damaged.total_s == pytest.approx(end_s - 0.02)


def test_only_what_lies_in_the_wanted_stretch_is_told() -> None:
    stretches = Stretches(10.0, 20.0)
    for start_s, end_s in ((1.0, 2.0), (9.0, 11.0), (15.0, 16.0), (19.0, 30.0), (40.0, 50.0)):
        stretches.add(start_s, end_s)
    assert stretches.total_s == 3.0
    assert stretches.told() == "from 10.00 to 11.00 s and at 2 more places, 3.00 s in all"


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=30))
def test_stretches_add_up(ends: list[float]) -> None:
    stretches, times = Stretches(before_s=math.inf), sorted({0.0, *ends})
    for start_s, end_s in pairwise(times):
        stretches.add(start_s, end_s)
    assert math.isclose(stretches.total_s, times[-1], abs_tol=1e-9)
