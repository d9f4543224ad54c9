from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import RETRY_AFTER_S, ApiError
from serve.ingress.limits.admission import MAX_RETRY_AFTER_S, Admission, Throughput
from serve.shares.ledger import Bounds
from serve.shares.limit import Shares


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
    admission = Admission(2, 1000.0, hands)
    with admission.enter():
        with admission.enter():
            with pytest.raises(ApiError, match="2 requests are waiting") as raised:
                admission.enter()
            assert (raised.value.status, raised.value.code) == (429, "queue_full")
        with admission.enter():
            assert admission.requests == 2
    assert admission.requests == 0


def test_a_request_that_fails_leaves_too(hands: Hands) -> None:
    admission = Admission(2, 1000.0, hands)
    with pytest.raises(KeyError), admission.enter() as ticket:
        ticket.expect(30.0)
        raise KeyError
    assert (admission.requests, admission.audio_s) == (0, 0.0)


def test_a_house_that_is_closed_lets_nobody_in_and_nobody_out(hands: Hands) -> None:
    admission = Admission(2, 1000.0, hands)
    with admission.enter() as ticket:
        assert not admission.closed
        admission.close()
        assert admission.closed
        with pytest.raises(ApiError) as raised:
            admission.enter()
        assert (raised.value.status, raised.value.code) == (503, "shutting_down")
        ticket.expect(30.0)
        assert admission.requests == 1
    assert admission.requests == 0


def test_audio_is_bounded_over_all_requests(hands: Hands) -> None:
    admission = Admission(10, 100.0, hands)
    with admission.enter() as first, admission.enter() as second:
        first.expect(80.0)
        with pytest.raises(ApiError, match="80 s of audio are waiting"):
            second.expect(30.0)
        assert admission.audio_s == 80.0
        first.done(10.0)
        second.expect(30.0)
        assert admission.audio_s == 100.0
        with pytest.raises(ApiError, match="100 s of audio"):
            admission.enter()


def test_a_request_alone_is_taken_in_whatever_its_length(hands: Hands) -> None:
    admission = Admission(10, 100.0, hands)
    with admission.enter() as ticket:
        ticket.expect(7200.0)
        assert admission.audio_s == 7200.0


def test_one_key_cannot_fill_the_house_with_its_hours(hands: Hands) -> None:
    admission = Admission(10, 100.0, hands)
    with admission.enter("greedy") as much, admission.enter("guest") as first:
        much.expect(100.0)
        with pytest.raises(ApiError, match="100 s of audio"):
            admission.enter("greedy")
        first.expect(30.0)
        with admission.enter("guest") as second:
            second.expect(20.0)  # half of it is a share
            with pytest.raises(ApiError, match="150 s of audio"):
                admission.enter("guest")
        with admission.enter("guest") as second, pytest.raises(ApiError, match="130 s of audio"):
            second.expect(21.0)
        with admission.enter("third") as other:
            other.expect(7200.0)  # one recording of a key is taken in whatever its length
            with pytest.raises(ApiError):
                admission.enter("third")


def test_who_has_gone_has_no_share(hands: Hands) -> None:
    admission = Admission(10, 100.0, hands)
    with admission.enter("a") as first:
        first.expect(60.0)
        with admission.enter("b") as other:
            other.expect(60.0)
        with admission.enter("a") as second:
            second.expect(40.0)
    assert not admission._keys_us


def test_what_was_expected_can_be_corrected(hands: Hands) -> None:
    admission = Admission(10, 100.0, hands)
    with admission.enter() as first, admission.enter() as second:
        first.expect(80.0)
        first.expect(60.0)
        second.expect(40.0)
        assert admission.audio_s == 100.0


def test_before_anything_was_measured_the_wait_is_a_guess(hands: Hands) -> None:
    admission = Admission(1, 100.0, hands)
    with admission.enter(), pytest.raises(ApiError) as raised:
        admission.enter()
    assert raised.value.retry_after_s == RETRY_AFTER_S


def test_the_wait_is_what_is_too_much_by_the_measured_speed(hands: Hands) -> None:
    admission = Admission(10, 1000.0, hands)
    with admission.enter() as first, admission.enter() as second:
        first.expect(1000.0)
        hands.time += 10.0
        first.done(100.0)  # 10 seconds of audio in a second
        with pytest.raises(ApiError) as raised:
            second.expect(400.0)
        assert raised.value.retry_after_s == pytest.approx((900 + 400 - 1000) / 10)


def test_where_there_is_no_place_the_wait_is_one_requests_share(hands: Hands) -> None:
    admission = Admission(2, 1000.0, hands)
    with admission.enter() as first, admission.enter() as second:
        first.expect(220.0)
        second.expect(200.0)
        hands.time += 2.0
        first.done(20.0)
        with pytest.raises(ApiError) as raised:
            admission.enter()
        assert raised.value.retry_after_s == pytest.approx(400 / 2 / 10)


def test_the_wait_is_at_least_a_second_and_at_most_ten_minutes(hands: Hands) -> None:
    admission = Admission(10, 100.0, hands)
    with admission.enter() as first, admission.enter() as second:
        first.expect(1_000_000.0)
        hands.time += 1.0
        first.done(1.0)
        with pytest.raises(ApiError) as raised:
            second.expect(1.0)
        assert raised.value.retry_after_s == MAX_RETRY_AFTER_S
    with admission.enter() as first, admission.enter() as second:
        first.expect(200.0)
        hands.time += 0.01
        first.done(100.0)
        with pytest.raises(ApiError) as raised:
            second.expect(0.01)
        assert raised.value.retry_after_s == 1.0


def test_silence_is_waited_for_no_longer_and_tells_nothing_of_the_speed(hands: Hands) -> None:
    admission = Admission(10, 1000.0, hands)
    with admission.enter() as ticket:
        ticket.expect(100.0)
        ticket.spare(40.0)
        assert (ticket.audio_s, admission.audio_s) == (60.0, 60.0)
        hands.time += 2.0
        ticket.done(60.0)
        ticket.spare(1.0)
        assert admission.audio_s == 0.0
    assert admission.speed.audio_per_s == pytest.approx(30.0)


def test_idle_time_does_not_count(hands: Hands) -> None:
    admission = Admission(10, 1000.0, hands)
    for _ in range(3):
        with admission.enter() as ticket:
            ticket.expect(60.0)
            hands.time += 2.0
            ticket.done(30.0)
            ticket.done(30.0)
        hands.time += 500.0
    assert admission.speed.audio_per_s == pytest.approx(30.0)


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
    admission = Admission(10, 1000.0, hands)
    assert admission.age_s == 0.0
    with admission.enter():
        hands.time += 7.0
        with admission.enter():
            hands.time += 1.0
            assert admission.age_s == 8.0
    assert admission.age_s == 0.0


@pytest.mark.medium
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 200.0), st.floats(0.0, 5.0)), max_size=60))
def test_the_bounds_hold_and_nothing_is_left_over(steps: list[tuple[int, float, float]]) -> None:
    hands = Hands()
    admission = Admission(4, 300.0, hands)
    tickets = []
    for kind, audio_s, passed_s in steps:
        hands.time += passed_s
        try:
            if kind == 0:
                tickets.append(admission.enter())
            elif kind == 1 and tickets:
                tickets[-1].expect(audio_s)
            elif kind == 2 and tickets:
                tickets[0].done(audio_s)
            elif tickets:
                tickets.pop(0).__exit__(None, None, None)
        except ApiError as error:
            assert error.status == 429 and 1.0 <= error.retry_after_s <= MAX_RETRY_AFTER_S
        assert admission.requests == len(tickets) <= 4
        assert 0.0 <= admission.audio_s <= 300.0 + 1e-9
    for ticket in tickets:
        ticket.__exit__(None, None, None)
    assert (admission.requests, admission.audio_s) == (0, 0.0)


def test_two_ingresses_let_in_what_the_endpoint_has_room_for_and_no_more() -> None:
    async def ask() -> None:
        bounds, hands = Bounds(), Hands()
        doors = [Admission(4, 100.0, hands) for _ in range(2)]
        shares = [Shares(clock=hands) for _ in doors]
        for door, share in zip(doors, shares, strict=True):
            door.share(share)

        async def enter(door: Admission, audio_s: float) -> bool:
            entering = asyncio.create_task(begun(door, audio_s))
            for _ in range(8):
                await asyncio.sleep(0)
                for number, share in enumerate(shares):
                    bounds.report(str(number), share.report())
                    share.obey(*bounds.orders(str(number)))
            return await entering

        async def begun(door: Admission, audio_s: float) -> bool:
            await door.room()
            try:
                ticket = door.enter("key")
            except ApiError:
                return False
            await door.room_for(audio_s)
            ticket.expect(audio_s)
            return True

        assert [await enter(doors[0], 20.0) for _ in range(3)] == [True] * 3
        assert await enter(doors[1], 30.0), "what the other does not use is given to this one"
        assert (doors[0].audio_s, doors[1].audio_s) == (60.0, 30.0)
        assert [await enter(door, 1.0) for door in doors] == [False] * 2
        assert sum(door.max_requests.allowed for door in doors) == 4
        assert sum(door.max_audio_ms.allowed for door in doors) <= 100_000

    asyncio.run(ask())
