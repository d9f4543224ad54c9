from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asr.audio.sounding import SAMPLE_BYTES
from serve.ingress.limits.memory import SHORT_SAMPLES, SMALL_BYTES, Full, Lease, Left, Longer, SampleMemory

MB = 1 << 20
LARGE = 10 * SMALL_BYTES


def grown(lease: Lease, nbytes: int, samples: int = 1) -> Lease:
    lease.look(0, samples, nbytes)
    return lease


def test_one_recording_of_any_size_is_taken_where_there_is_nothing_else() -> None:
    memory = SampleMemory(LARGE)
    lease = grown(memory.lease("key"), 5 * LARGE)
    assert memory.nbytes == 5 * LARGE
    lease.close()
    assert memory.nbytes == 0


def test_the_largest_that_is_being_decoded_is_stopped_and_nobody_else() -> None:
    memory = SampleMemory(LARGE)
    ready, large, middle = memory.lease("key"), memory.lease("key"), memory.lease("key")
    with ready:
        grown(ready, LARGE // 2)
    grown(large, LARGE // 3)
    grown(middle, LARGE // 4)  # which is over the bound by this
    grown(middle, LARGE // 4 + MB)
    grown(ready, LARGE // 2)
    with pytest.raises(Full):
        grown(large, LARGE // 3)
    large.close()
    grown(middle, LARGE // 3)
    assert memory.nbytes == LARGE // 2 + LARGE // 3


def test_a_short_recording_is_never_refused() -> None:
    memory = SampleMemory(LARGE)
    with memory.lease("key") as ready:
        grown(ready, 3 * LARGE)
    for _ in range(5):
        minute = memory.lease("key")
        minute.upload(1 << 20)
        grown(minute, SHORT_SAMPLES * SAMPLE_BYTES)


def decoded(memory: SampleMemory, key: str, nbytes: int) -> Lease:
    """Return a lease whose recording waits to be transcribed."""
    with memory.lease(key) as lease:
        return grown(lease, nbytes)


def test_five_recordings_of_one_key_left_no_memory_for_another_key() -> None:
    memory = SampleMemory(1024 * MB)
    for _ in range(5):
        decoded(memory, "greedy", 200 * MB)
    for nbytes in (3 * MB, 5 * MB, 20 * MB, 200 * MB):  # beyond 60 s 429 before
        decoded(memory, "guest", nbytes).close()
    within = decoded(memory, "guest", 512 * MB)
    for key in ("greedy", "guest"):
        with pytest.raises(Full):
            decoded(memory, key, 5 * MB)
    decoded(memory, "third", 341 * MB)
    with pytest.raises(Full):
        decoded(memory, "third", 5 * MB)
    within.close()
    with pytest.raises(Full):
        decoded(memory, "guest", 513 * MB)


def test_a_key_beyond_its_share_is_stopped_and_no_larger_recording_within_one() -> None:
    memory = SampleMemory(LARGE)
    decoded(memory, "greedy", LARGE * 6 // 10)
    small, guest = memory.lease("greedy"), memory.lease("guest")
    grown(small, SMALL_BYTES + MB)
    grown(guest, LARGE // 2)
    with pytest.raises(Full):
        grown(small, SMALL_BYTES + MB)
    grown(guest, LARGE // 2)


def test_what_is_being_stopped_makes_nobody_else_pass_their_share() -> None:
    memory = SampleMemory(LARGE)
    decoded(memory, "a", LARGE)
    second = grown(memory.lease("b"), LARGE // 2)
    decoded(memory, "c", LARGE // 3)
    third = memory.lease("c")
    with pytest.raises(Full):  # second is stopped for it, and a lease as large was kept in its place before
        grown(third, LARGE // 2)
    with pytest.raises(Full):
        grown(second, LARGE // 2)


def test_who_was_stopped_after_their_last_sample_failed_while_transcribed() -> None:
    memory = SampleMemory(LARGE)
    late, other = memory.lease("a"), memory.lease("b")
    with pytest.raises(Full), late:
        grown(late, LARGE * 6 // 10)
        grown(other, LARGE // 2)
    assert memory.nbytes == LARGE // 2
    late.close()
    grown(other, LARGE)


def test_who_has_gone_has_no_share_of_memory() -> None:
    memory = SampleMemory(LARGE)
    decoded(memory, "guest", LARGE // 2).close()
    abandoned = memory.lease("other")
    with pytest.raises(Left), abandoned:
        abandoned.upload(MB)
        abandoned.close()
        grown(abandoned, LARGE)
    decoded(memory, "greedy", LARGE // 2)
    decoded(memory, "greedy", LARGE // 2)
    assert list(memory._keys) == ["greedy"]


class Requests(RuleBasedStateMachine):
    """Requests of three keys at any point of their way; who is stopped notices it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = SampleMemory(LARGE)
        self.begun: list[Lease] = []
        self.waiting: list[Lease] = []

    @rule(key=st.sampled_from("abc"), upload=st.integers(0, MB))
    def begin(self, key: str, upload: int) -> None:
        lease = self.memory.lease(key)
        lease.upload(upload)
        self.begun.append(lease.__enter__())
        self.notice()

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), nbytes=st.integers(1, LARGE // 2))
    def decode(self, data: st.DataObject, nbytes: int) -> None:
        lease = data.draw(st.sampled_from(self.begun))
        with suppress(Full):
            lease.look(0, 1, min(lease.parts.get(0, 0) + nbytes, LARGE - MB))  # beyond, one that is alone is kept
        self.notice()

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.begun))
        self.begun.remove(lease)
        lease.__exit__(None, None, None)
        lease.upload(0)
        self.waiting.append(lease)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), share=st.floats(0.0, 1.0))
    def forget(self, data: st.DataObject, share: float) -> None:
        lease = data.draw(st.sampled_from(self.waiting))
        lease.look(0, 1, int(lease.parts.get(0, 0) * share))

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.begun))
        lease.close()
        self.leave(self.begun, lease, Left)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(lease)
        lease.close()

    def notice(self) -> None:
        for stopped in [one for one in self.begun if one.is_stopped]:
            assert stopped.nbytes > SMALL_BYTES
            with pytest.raises(Full):
                stopped.look(0, 1, stopped.parts[0])
            self.leave(self.begun, stopped, Full)

    def leave(self, where: list[Lease], lease: Lease, why: type[Exception]) -> None:
        where.remove(lease)
        lease.__exit__(why, why(), None)
        lease.close()

    @invariant()
    def the_shares_hold(self) -> None:
        leases = [*self.begun, *self.waiting]
        held = Counter[str]()
        for lease in leases:
            held[lease.key] += lease.nbytes
        assert self.memory.nbytes == held.total()
        assert self.memory._keys == +held and all(self.memory._keys.values())
        small = sum(lease.nbytes for lease in leases if lease.nbytes <= SMALL_BYTES)
        assert self.memory.nbytes - small <= sum(LARGE / number for number in range(1, len(+held) + 1))

    def teardown(self) -> None:
        while self.begun:
            self.leave(self.begun, self.begun[0], Left)
        while self.waiting:
            self.waiting.pop().close()
        assert self.memory.nbytes == 0 and not self.memory._keys


class TestSharesOfMemory(Requests.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(deadline=None, max_examples=60, stateful_step_count=60)


def test_channels_and_the_upload_are_added_up_and_given_back() -> None:
    memory = SampleMemory(LARGE)
    lease = memory.lease("key")
    lease.upload(7)
    with lease:
        lease.look(0, 10, 40)
        lease.look(1, 10, 40)
    assert memory.nbytes == 87
    lease.upload(0)
    lease.look(1, 10, 8)
    assert memory.nbytes == 48


def test_what_failed_holds_nothing_and_may_be_begun_again() -> None:
    memory = SampleMemory(LARGE)
    lease = memory.lease("key")
    lease.max_samples = 100
    with pytest.raises(Longer), lease:
        lease.look(0, 60, 240)
        lease.look(1, 41, 400)
    assert memory.nbytes == 0
    lease.max_samples = None
    with lease:
        lease.look(0, 1000, 4000)
    assert memory.nbytes == 4000


def test_who_has_left_holds_memory_until_their_decoding_has_stopped() -> None:
    memory = SampleMemory(LARGE)
    lease = memory.lease("key")
    with pytest.raises(Left), lease:
        lease.look(0, 1, LARGE)
        lease.close()
        assert memory.nbytes == LARGE
        lease.look(0, 2, LARGE)
    assert memory.nbytes == 0
    with pytest.raises(Left), lease:
        raise AssertionError("begun for nobody")
