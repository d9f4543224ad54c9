from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve.replica.scheduler import FairScheduler, QueuedWindow

BUDGET_S = 240.0


# Who asks for a request: in turn, as all that holds among requests holds among keys.
labels: Callable[[str], str] = str


@pytest.fixture(autouse=True, params=["of one key", "each of a key of its own"])
def keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "whose", str if request.param.startswith("each") else lambda name: "all")


def window(request: str, position: int = 0, audio_s: float = 30.0) -> QueuedWindow[str]:
    return QueuedWindow(f"{request}{position}", request, position, audio_s, key=labels(request))


def fill(scheduler: FairScheduler[str], request: str, count: int, audio_s: float = 30.0, first: int = 0) -> None:
    for position in range(first, first + count):
        scheduler.put(window(request, position, audio_s))


def taken(scheduler: FairScheduler[str], budget_s: float = BUDGET_S) -> list[str]:
    return [waiting.item for waiting in scheduler.take(budget_s)]


def test_an_empty_line_has_no_batch() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    assert scheduler.take(BUDGET_S) == []
    assert (len(scheduler), scheduler.audio_s) == (0, 0.0)


def test_a_batch_is_bounded_by_seconds_not_by_windows() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    fill(scheduler, "long", 10)
    assert taken(scheduler) == [f"long{number}" for number in range(8)]
    assert (len(scheduler), scheduler.audio_s) == (2, 60.0)
    fill(scheduler, "short", 200, audio_s=2.0)
    assert len(taken(scheduler)) > 80


def test_a_window_longer_than_the_bound_is_a_batch_of_its_own() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    fill(scheduler, "a", 2, audio_s=30.0)
    assert taken(scheduler, 10.0) == ["a0"]
    assert taken(scheduler, 10.0) == ["a1"]


def test_a_recordings_windows_go_in_its_order_however_they_came() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for position in (3, 0, 2, 1):
        scheduler.put(window("a", position))
    assert taken(scheduler) == ["a0", "a1", "a2", "a3"]


@pytest.mark.parametrize("audio_s", [1.0, 5.0, 29.0, 30.0])
@pytest.mark.parametrize("batches_before", [0, 1, 7])
def test_a_short_clip_is_in_the_next_batch_whatever_a_two_hour_file_has_waiting(
    audio_s: float, batches_before: int
) -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    fill(scheduler, "film", 240)
    for _ in range(batches_before):
        scheduler.take(BUDGET_S)
    fill(scheduler, "clip", 1, audio_s)
    assert "clip0" in taken(scheduler)


def test_a_short_clip_overtakes_many_long_files() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for name in "abcdefgh":
        fill(scheduler, name, 60)
    scheduler.take(BUDGET_S)
    fill(scheduler, "clip", 1)
    assert any("clip0" in taken(scheduler) for _ in range(2))


def test_files_share_a_replica_in_equal_parts_and_the_later_one_catches_up_nothing() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    fill(scheduler, "a", 100)
    for _ in range(5):
        scheduler.take(BUDGET_S)
    fill(scheduler, "b", 100)
    shares = Counter(waiting.request for _ in range(4) for waiting in scheduler.take(BUDGET_S))
    assert shares == {"a": 16, "b": 16}


def test_many_short_requests_do_not_starve_a_long_file() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    fill(scheduler, "film", 100)
    scheduler.take(BUDGET_S)
    served = 0
    for number in range(200):  # each moment as many clips come as fill a batch
        for clip in range(8):
            fill(scheduler, f"clip{number}-{clip}", 1)
        served += sum(waiting.request == "film" for waiting in scheduler.take(BUDGET_S))
    assert served >= 20


def test_windows_of_like_length_go_together() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for number in range(48):
        fill(scheduler, f"s{number}-", 1, audio_s=3.0)
        fill(scheduler, f"l{number}-", 1, audio_s=24.0)
    kinds = [{waiting.request[0] for waiting in scheduler.take(72.0)} for _ in range(5)]
    assert all(len(kind) == 1 for kind in kinds)
    assert {"s"} in kinds and {"l"} in kinds


def test_what_room_the_like_leave_the_unlike_take() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    fill(scheduler, "a", 1, audio_s=30.0)
    fill(scheduler, "b", 5, audio_s=3.0)
    assert len(scheduler.take(BUDGET_S)) == 6


def test_what_is_withdrawn_is_never_taken() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    gone = window("a", 0)
    scheduler.put(gone)
    scheduler.put(window("a", 1))
    assert scheduler.withdraw(gone)
    assert not scheduler.withdraw(gone)
    assert taken(scheduler) == ["a1"]
    assert not scheduler.withdraw(gone)


def test_the_window_that_is_due_first_decides_which_engines_are_in_the_batch() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for number in range(3):
        scheduler.put(QueuedWindow(f"a{number}", f"a{number}", 0, 30.0, "one", labels(f"a{number}")))
        scheduler.put(QueuedWindow(f"b{number}", f"b{number}", 0, 30.0, "other", labels(f"b{number}")))
    assert taken(scheduler) == ["a0", "a1", "a2"]
    assert taken(scheduler) == ["b0", "b1", "b2"]


def test_two_groups_share_a_replica_in_equal_parts() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for position in range(100):
        scheduler.put(QueuedWindow("film", "film", position, 30.0, "one", labels("film")))
        scheduler.put(QueuedWindow("talk", "talk", position, 30.0, "other", labels("talk")))
    batches = [{waiting.item for waiting in scheduler.take(BUDGET_S)} for _ in range(10)]
    assert sorted(map(sorted, batches)) == [["film"]] * 5 + [["talk"]] * 5


@settings(deadline=None)
@given(
    put=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30), st.sampled_from("xyz")), max_size=60),
    budget_s=st.sampled_from([1.0, 60.0, 240.0]),
)
def test_no_batch_mixes_groups_and_none_is_left_behind(put: list[tuple[int, int, str]], budget_s: float) -> None:
    scheduler: FairScheduler[int] = FairScheduler()
    for number, (request, audio_s, group) in enumerate(put):
        scheduler.put(
            QueuedWindow(number, f"{request}{group}", number, float(audio_s), group, labels(f"{request}{group}"))
        )
    out: list[int] = []
    while len(scheduler):
        batch = scheduler.take(budget_s)
        assert batch and len({waiting.group for waiting in batch}) == 1
        out += [waiting.item for waiting in batch]
    assert sorted(out) == list(range(len(put)))


Step = tuple[int, int]
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=80)


@settings(deadline=None)
@given(steps=STEPS, budget_s=st.sampled_from([1.0, 30.0, 60.0, 240.0]))
def test_every_window_is_taken_once_and_every_batch_is_within_its_bound(steps: list[Step], budget_s: float) -> None:
    """A step puts a window of so many seconds into one of a few requests; 0 seconds takes a batch instead."""
    scheduler: FairScheduler[int] = FairScheduler()
    put: list[int] = []
    out: list[int] = []

    def take() -> None:
        batch = scheduler.take(budget_s)
        assert sum(waiting.audio_s for waiting in batch) <= budget_s or len(batch) == 1
        out.extend(waiting.item for waiting in batch)

    for number, (request, audio_s) in enumerate(steps):
        if audio_s:
            scheduler.put(QueuedWindow(number, str(request), number, float(audio_s), key=labels(str(request))))
            put.append(number)
        else:
            take()
        assert len(scheduler) == len(put) - len(out)
    while len(scheduler):
        take()
    assert sorted(out) == put


@settings(deadline=None)
@given(
    files=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=12),
    before=st.integers(0, 10),
    clip_s=st.integers(1, 30),
    budget_s=st.sampled_from([30.0, 60.0, 240.0]),
)
def test_who_comes_waits_for_at_most_two_windows_of_each_other_request(
    files: list[Step], before: int, clip_s: int, budget_s: float
) -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for number, (count, audio_s) in enumerate(files):
        fill(scheduler, f"file{number}-", count, float(audio_s))
    for _ in range(before):
        scheduler.take(budget_s)
    fill(scheduler, "clip", 1, float(clip_s))
    for _ in range(2 * len(files) + 1):
        if "clip0" in taken(scheduler, budget_s):
            return
    raise AssertionError("the clip waited longer")


def assert_none_is_far_behind(
    scheduler: FairScheduler[str], batches: int, names: list[str], name_of: Callable[[QueuedWindow[str]], str]
) -> None:
    """Assert that nobody ever lacks more of an equal part than one batch of theirs, or leads by more than a batch.

    Beside that lead is what somebody was given since it was last first: what a batch has left, less than a window of
    who is first in it, goes to whoever has a window that fits, as nobody else can use it.
    """
    served, given = Counter(dict.fromkeys(names, 0.0)), Counter(dict.fromkeys(names, 0.0))
    for _ in range(batches):
        first, *rest = scheduler.take(BUDGET_S)
        given[name_of(first)] = 0.0
        left = [waiting for waiting in rest if waiting.audio_s < first.audio_s]
        assert sum(waiting.audio_s for waiting in left) < first.audio_s
        for waiting in (first, *rest):
            served[name_of(waiting)] += waiting.audio_s
        for waiting in left:
            given[name_of(waiting)] += waiting.audio_s
        least = min(served.values())
        assert served.total() / len(names) - least <= BUDGET_S * (1 - 1 / len(names)) + 1e-6
        assert all(served[name] - least <= BUDGET_S + given[name] for name in names)


@settings(deadline=None)
@example(files=[10, 12, 27, 28, 29], batches=4)  # 12 s fits where 27 s and 28 s do not: it leads by 276 s
@given(files=st.lists(st.integers(10, 30), min_size=2, max_size=6), batches=st.integers(1, 20))
def test_no_request_is_ever_far_behind_another(files: list[int], batches: int) -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for number, audio_s in enumerate(files):
        fill(scheduler, str(number), 500, float(audio_s))
    assert_none_is_far_behind(
        scheduler, batches, [str(number) for number in range(len(files))], lambda one: one.request
    )


def of_keys(scheduler: FairScheduler[str], requests: dict[str, int], windows: int = 100, audio_s: float = 30.0) -> None:
    """Let so many requests of each key wait, each with so many windows."""
    for key, count in requests.items():
        for number in range(count):
            for position in range(windows):
                scheduler.put(QueuedWindow(f"{key}{number}-{position}", f"{key}{number}", position, audio_s, key=key))


def test_a_key_with_25_requests_has_no_more_turns_than_one_with_a_single_request() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    of_keys(scheduler, {"many": 25, "one": 1})
    served = Counter(waiting.key for _ in range(20) for waiting in scheduler.take(BUDGET_S))
    assert served == {"many": 80, "one": 80}


def test_requests_of_a_key_share_its_part() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    of_keys(scheduler, {"many": 4, "one": 1})
    served = Counter(waiting.request for _ in range(20) for waiting in scheduler.take(BUDGET_S))
    assert served == {"one0": 80} | {f"many{number}": 20 for number in range(4)}


def test_a_clip_of_a_key_overtakes_any_number_of_another_keys_files() -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    of_keys(scheduler, {"many": 50})
    for _ in range(3):
        scheduler.take(BUDGET_S)
    of_keys(scheduler, {"one": 1}, windows=1, audio_s=1.5)
    assert "one0-0" in taken(scheduler)


@pytest.mark.medium
@settings(deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 8), st.integers(5, 30)), min_size=2, max_size=5),
    batches=st.integers(1, 12),
)
def test_no_key_is_ever_far_behind_another(requests: list[Step], batches: int) -> None:
    scheduler: FairScheduler[str] = FairScheduler()
    for number, (count, audio_s) in enumerate(requests):
        of_keys(scheduler, {f"key {number}": count}, 600 // count, float(audio_s))
    assert_none_is_far_behind(scheduler, batches, [f"key {n}" for n in range(len(requests))], lambda one: one.key)
