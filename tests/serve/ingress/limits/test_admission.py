from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import RETRY_AFTER_S, ApiError
from serve.ingress.limits.admission import MAX_RETRY_AFTER_S, Admission, Throughput


@dataclass
class Hands:
    """A clock that goes when it is told to."""

    time: float = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_requests_are_bounded_and_a_place_is_free_when_one_goes(hands: Hands) -> None:
    house = Admission(2, 1000.0, hands)
    with house.enter():
        with house.enter():
            with pytest.raises(ApiError, match="2 requests are waiting") as raised:
                house.enter()
            assert (raised.value.status, raised.value.code) == (429, "queue_full")
        with house.enter():
            assert house.requests == 2
    assert house.requests == 0


def test_a_request_that_fails_leaves_too(hands: Hands) -> None:
    house = Admission(2, 1000.0, hands)
    with pytest.raises(KeyError), house.enter() as visit:
        visit.expect(30.0)
        raise KeyError
    assert (house.requests, house.audio_s) == (0, 0.0)


def test_a_house_that_is_closed_lets_nobody_in_and_nobody_out(hands: Hands) -> None:
    house = Admission(2, 1000.0, hands)
    with house.enter() as visit:
        assert not house.closed
        house.close()
        assert house.closed
        with pytest.raises(ApiError) as raised:
            house.enter()
        assert (raised.value.status, raised.value.code) == (503, "shutting_down")
        visit.expect(30.0)
        assert house.requests == 1
    assert house.requests == 0


def test_audio_is_bounded_over_all_requests(hands: Hands) -> None:
    house = Admission(10, 100.0, hands)
    with house.enter() as first, house.enter() as second:
        first.expect(80.0)
        with pytest.raises(ApiError, match="80 s of audio are waiting"):
            second.expect(30.0)
        assert house.audio_s == 80.0
        first.done(10.0)
        second.expect(30.0)
        assert house.audio_s == 100.0
        with pytest.raises(ApiError, match="100 s of audio"):
            house.enter()


def test_a_request_alone_is_taken_in_whatever_its_length(hands: Hands) -> None:
    house = Admission(10, 100.0, hands)
    with house.enter() as visit:
        visit.expect(7200.0)
        assert house.audio_s == 7200.0


def test_one_key_cannot_fill_the_house_with_its_hours(hands: Hands) -> None:
    house = Admission(10, 100.0, hands)
    with house.enter("greedy") as much, house.enter("guest") as first:
        much.expect(100.0)
        with pytest.raises(ApiError, match="100 s of audio"):
            house.enter("greedy")
        first.expect(30.0)
        with house.enter("guest") as second:
            second.expect(20.0)  # half of it is a share
            with pytest.raises(ApiError, match="150 s of audio"):
                house.enter("guest")
        with house.enter("guest") as second, pytest.raises(ApiError, match="130 s of audio"):
            second.expect(21.0)
        with house.enter("third") as other:
            other.expect(7200.0)  # one recording of a key is taken in whatever its length
            with pytest.raises(ApiError):
                house.enter("third")


def test_who_has_gone_has_no_share(hands: Hands) -> None:
    house = Admission(10, 100.0, hands)
    with house.enter("a") as first:
        first.expect(60.0)
        with house.enter("b") as other:
            other.expect(60.0)
        with house.enter("a") as second:
            second.expect(40.0)
    assert not house._keys_us


def test_what_was_expected_can_be_corrected(hands: Hands) -> None:
    house = Admission(10, 100.0, hands)
    with house.enter() as first, house.enter() as second:
        first.expect(80.0)
        first.expect(60.0)
        second.expect(40.0)
        assert house.audio_s == 100.0


def test_before_anything_was_measured_the_wait_is_a_guess(hands: Hands) -> None:
    house = Admission(1, 100.0, hands)
    with house.enter(), pytest.raises(ApiError) as raised:
        house.enter()
    assert raised.value.retry_after_s == RETRY_AFTER_S


def test_the_wait_is_what_is_too_much_by_the_measured_speed(hands: Hands) -> None:
    house = Admission(10, 1000.0, hands)
    with house.enter() as first, house.enter() as second:
        first.expect(1000.0)
        hands.time += 10.0
        first.done(100.0)  # 10 seconds of audio in a second
        with pytest.raises(ApiError) as raised:
            second.expect(400.0)
        assert raised.value.retry_after_s == pytest.approx((900 + 400 - 1000) / 10)


def test_where_there_is_no_place_the_wait_is_one_requests_share(hands: Hands) -> None:
    house = Admission(2, 1000.0, hands)
    with house.enter() as first, house.enter() as second:
        first.expect(220.0)
        second.expect(200.0)
        hands.time += 2.0
        first.done(20.0)
        with pytest.raises(ApiError) as raised:
            house.enter()
        assert raised.value.retry_after_s == pytest.approx(400 / 2 / 10)


def test_the_wait_is_at_least_a_second_and_at_most_ten_minutes(hands: Hands) -> None:
    house = Admission(10, 100.0, hands)
    with house.enter() as first, house.enter() as second:
        first.expect(1_000_000.0)
        hands.time += 1.0
        first.done(1.0)
        with pytest.raises(ApiError) as raised:
            second.expect(1.0)
        assert raised.value.retry_after_s == MAX_RETRY_AFTER_S
    with house.enter() as first, house.enter() as second:
        first.expect(200.0)
        hands.time += 0.01
        first.done(100.0)
        with pytest.raises(ApiError) as raised:
            second.expect(0.01)
        assert raised.value.retry_after_s == 1.0


def test_idle_time_does_not_count(hands: Hands) -> None:
    house = Admission(10, 1000.0, hands)
    for _ in range(3):
        with house.enter() as visit:
            visit.expect(60.0)
            hands.time += 2.0
            visit.done(30.0)
            visit.done(30.0)
        hands.time += 500.0
    assert house.speed.audio_per_s == pytest.approx(30.0)


def test_the_speed_is_that_of_the_last_windows(hands: Hands) -> None:
    speed = Throughput(hands)
    assert speed.audio_per_s is None
    speed.begin()
    for _ in range(500):
        hands.time += 1.0
        speed.done(30.0)
    for _ in range(500):
        hands.time += 10.0
        speed.done(30.0)
    assert speed.audio_per_s == pytest.approx(3.0)


def test_a_speed_that_stands_still_falls(hands: Hands) -> None:
    speed = Throughput(hands)
    speed.begin()
    hands.time += 1.0
    speed.done(30.0)
    hands.time += 29.0
    assert speed.audio_per_s == pytest.approx(1.0)


def test_the_age_is_that_of_the_oldest_request(hands: Hands) -> None:
    house = Admission(10, 1000.0, hands)
    assert house.age_s == 0.0
    with house.enter():
        hands.time += 7.0
        with house.enter():
            hands.time += 1.0
            assert house.age_s == 8.0
    assert house.age_s == 0.0


@pytest.mark.medium
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 200.0), st.floats(0.0, 5.0)), max_size=60))
def test_the_bounds_hold_and_nothing_is_left_over(steps: list[tuple[int, float, float]]) -> None:
    hands = Hands()
    house = Admission(4, 300.0, hands)
    visits = []
    for kind, audio_s, passed_s in steps:
        hands.time += passed_s
        try:
            if kind == 0:
                visits.append(house.enter())
            elif kind == 1 and visits:
                visits[-1].expect(audio_s)
            elif kind == 2 and visits:
                visits[0].done(audio_s)
            elif visits:
                visits.pop(0).__exit__(None, None, None)
        except ApiError as error:
            assert error.status == 429 and 1.0 <= error.retry_after_s <= MAX_RETRY_AFTER_S
        assert house.requests == len(visits) <= 4
        assert 0.0 <= house.audio_s <= 300.0 + 1e-9
    for visit in visits:
        visit.__exit__(None, None, None)
    assert (house.requests, house.audio_s) == (0, 0.0)
