"""Cost of one more request in a replica's queue and an ingress's admission that hold very many."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count

from benchmarks.scale.figures import Figure, Sizes, median_core_s
from serve.ingress.limits.admission import Admission
from serve.replica.scheduler import FairScheduler, QueuedWindow

_BUDGET_S = 240.0
_REPEATS = 15


def scheduler(sizes: Sizes) -> list[Figure]:
    """Return the figures of lines of windows, each of a request of its own or all of one, and of admission."""
    figures = []
    for waiting in sizes.waiting:
        figures += _scheduler(waiting, 1) + _scheduler(waiting, waiting) + _door(waiting)
    return figures


def _scheduler(waiting: int, each: int) -> list[Figure]:
    numbers = count()
    held: FairScheduler[int] = FairScheduler()

    def put() -> None:
        number = next(numbers)
        held.put(QueuedWindow(number, f"request {number // each}", number % each, float(1 + number % 30)))

    for _ in range(waiting):
        put()
    taken = []

    def take() -> None:
        taken.append(len(held.take(_BUDGET_S)))
        for _ in range(taken[-1]):
            put()

    at = f"{waiting:,} windows of {'as many requests' if each == 1 else 'one request'}"
    take_s = median_core_s(take, _REPEATS)
    return [
        Figure("a batch taken, and as many windows put", at, 1000 * take_s, "ms"),
        Figure("windows in the batch", at, sum(taken) / len(taken), "windows"),
        Figure("audio that waits, added up", at, 1000 * median_core_s(lambda: held.audio_s, _REPEATS), "ms"),
    ]


def _door(inside: int) -> list[Figure]:
    admission = Admission(inside + 1, 1e9)
    with ExitStack() as stack:
        for _ in range(inside):
            stack.enter_context(admission.enter()).expect(5.0)

        def pass_through() -> None:
            with admission.enter() as ticket:
                ticket.expect(5.0)
                ticket.done(5.0)

        seconds = median_core_s(pass_through, _REPEATS)
    return [Figure("a request let in, counted and let go", f"{inside:,} others inside", 1e6 * seconds, "µs")]
