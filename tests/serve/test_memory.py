from __future__ import annotations

import pytest

from serve.memory import SMALL_BYTES, Full, Lease, Left, Longer, SampleMemory

MB = 1 << 20
LARGE = 10 * SMALL_BYTES


def grown(lease: Lease, nbytes: int, samples: int = 1) -> Lease:
    lease.look(0, samples, nbytes)
    return lease


def test_one_recording_of_any_size_is_taken_where_there_is_nothing_else() -> None:
    memory = SampleMemory(LARGE)
    lease = grown(memory.lease(), 5 * LARGE)
    assert memory.nbytes == 5 * LARGE
    lease.close()
    assert memory.nbytes == 0


def test_the_largest_that_is_being_decoded_is_stopped_and_nobody_else() -> None:
    memory = SampleMemory(LARGE)
    decoded, large, middle = memory.lease(), memory.lease(), memory.lease()
    with decoded:
        grown(decoded, LARGE // 2)
    grown(large, LARGE // 3)
    grown(middle, LARGE // 4)  # which is over the bound by this
    grown(middle, LARGE // 4 + MB)
    grown(decoded, LARGE // 2)
    with pytest.raises(Full):
        grown(large, LARGE // 3)
    large.close()
    grown(middle, LARGE // 3)
    assert memory.nbytes == LARGE // 2 + LARGE // 3


def test_a_short_recording_is_never_refused() -> None:
    memory = SampleMemory(LARGE)
    decoded = memory.lease()
    with decoded:
        grown(decoded, 3 * LARGE)
    for _ in range(5):
        grown(memory.lease(), SMALL_BYTES)


def test_channels_and_the_upload_are_added_up_and_given_back() -> None:
    memory = SampleMemory(LARGE)
    lease = memory.lease()
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
    lease = memory.lease()
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
    lease = memory.lease()
    with pytest.raises(Left), lease:
        lease.look(0, 1, LARGE)
        lease.close()
        assert memory.nbytes == LARGE
        lease.look(0, 2, LARGE)
    assert memory.nbytes == 0
    with pytest.raises(Left), lease:
        raise AssertionError("begun for nobody")
