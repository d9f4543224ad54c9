from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.shares.ledger import Bounds, Ledger, ShareState, shared_out


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Ingress:
    """One that uses what it can of what it wants, and does what it is ordered, as the real ones do."""

    def __init__(self, name: str, ledger: Ledger, total: int, keep_s: float = 0.0) -> None:
        self.name, self.ledger, self.total, self.keep_s = name, ledger, total, keep_s
        self.held = self.used = self.wanted = 0

    def ask(self, amount: int) -> None:
        taken = min(amount, max(self.held - self.used, 0))
        self.used += taken
        self.wanted += amount - taken

    def report(self, closed: bool = False) -> None:
        state = ShareState(self.total, self.held, self.used, self.wanted, self.keep_s)
        self.ledger.report(self.name, state)
        self.ledger.settle(closed)

    def obey(self) -> None:
        ordered = self.ledger.ordered(self.name)
        self.held = max(ordered or 0, self.used)
        wanted, self.wanted = self.wanted, 0
        self.ask(wanted)


def rounds(ingresses: list[Ingress], count: int = 4) -> None:
    for _ in range(count):
        for one in ingresses:
            one.report()
            one.obey()


def test_one_ingress_has_all_of_a_bound() -> None:
    one = Ingress("a", Ledger(), 64)
    one.wanted = 1
    one.report()
    assert one.ledger.ordered("a") == 64


def test_a_second_ingress_gets_what_the_first_gives_back_and_never_before() -> None:
    ledger = Ledger()
    first, second = Ingress("a", ledger, 64), Ingress("b", ledger, 64)
    first.ask(10)
    rounds([first])
    assert (first.held, first.used) == (64, 10)
    second.ask(30)
    second.report()
    assert ledger.ordered("b") == 0 and not ledger.is_full("b"), "it is asked back first"
    assert ledger.ordered("a") == 10 + 12, "what is left over is shared"
    first.report()
    first.obey()
    first.report()
    second.obey()
    rounds([second, first])
    assert second.used == 30
    assert first.held + second.held <= 64


def test_who_wants_more_than_there_is_hears_that_it_is_full() -> None:
    ledger = Ledger()
    first, second = Ingress("a", ledger, 10), Ingress("b", ledger, 10)
    first.ask(10)
    rounds([first])
    second.ask(3)
    second.report()
    assert ledger.is_full("b") and not ledger.is_full("a")
    first.used = 4
    rounds([first, second])
    assert second.used == 3 and not ledger.is_full("b")


def test_the_share_of_a_dead_ingress_is_free_at_once_and_its_requests_of_a_minute_after_it() -> None:
    clock = Hands()
    for keep_s, at_once in ((0.0, 10), (60.0, 3)):
        ledger = Ledger(clock)
        first, second = Ingress("a", ledger, 10, keep_s), Ingress("b", ledger, 10, keep_s)
        first.ask(7)
        second.ask(3)
        rounds([first, second])
        assert (first.used, second.used) == (7, 3)
        ledger.leave("a")
        second.ask(7)
        rounds([second])
        assert second.held == at_once
        clock.now += 61.0
        rounds([second])
        assert second.held == 10


def test_until_all_have_reported_to_a_new_ledger_nobody_gets_more() -> None:
    ledger = Ledger()
    first = Ingress("a", ledger, 10)
    first.held, first.used, first.wanted = 4, 4, 3
    first.report(closed=True)
    assert ledger.ordered("a") == 4 and not ledger.is_full("a"), "nobody knows yet"
    first.report()
    assert ledger.ordered("a") == 10


def test_an_ingress_that_reports_a_bound_no_more_has_given_its_share_back() -> None:
    bounds = Bounds()
    assert bounds.report("a", {"key": ShareState(10, 0, 0, 1)}) == {"a"}
    assert bounds.orders("a") == ({"key": 10}, frozenset())
    bounds.report("a", {"key": ShareState(10, 10, 1)})
    assert bounds.report("b", {"key": ShareState(10, 0, 0, 9)}) == {"a"}, "it is asked to give some back"
    assert bounds.report("a", {}) == {"b"}
    assert bounds.orders("a") == ({}, frozenset()) and bounds.orders("b") == ({"key": 10}, frozenset())
    assert bounds.leave("b") == set() and bounds.orders("b") == ({}, frozenset())


def test_who_wants_what_nobody_can_give_is_told_so() -> None:
    bounds = Bounds()
    bounds.report("a", {"key": ShareState(10, 10, 10)})
    assert bounds.report("b", {"key": ShareState(10, 0, 0, 1)}) == {"b"}
    assert bounds.orders("b") == ({"key": 0}, frozenset({"key"}))
    assert bounds.settle() == {"b"}


@given(st.integers(0, 1000), st.dictionaries(st.text(max_size=2), st.integers(0, 500), max_size=6))
def test_shares_are_all_of_the_bound_and_the_small_demands_are_met(total: int, demands: dict[str, int]) -> None:
    shares = shared_out(total, demands)
    assert shares.keys() == demands.keys()
    if demands:
        assert sum(shares.values()) == total
    if sum(demands.values()) <= total:
        assert all(shares[name] >= demands[name] for name in demands)
    else:
        unmet = [shares[name] for name in demands if shares[name] < demands[name]]
        assert max(unmet) - min(unmet) <= 1
        assert all(shares[name] <= max(unmet) for name in demands)


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ask", "leave", "report", "obey"]), st.integers(0, 20))),
)
def test_whatever_happens_in_whatever_order_no_more_is_used_than_the_bound(
    total: int, events: list[tuple[int, str, int]]
) -> None:
    ledger = Ledger()
    ingresses = [Ingress(str(number), ledger, total) for number in range(4)]
    reported: set[int] = set()
    for number, what, amount in events:
        one = ingresses[number]
        if what == "ask":
            one.ask(amount)
        elif what == "leave":
            one.used = max(one.used - amount, 0)
        elif what == "report":
            one.report()
            reported.add(number)
        elif number in reported:  # orders answer a report
            one.obey()
            reported.discard(number)
        assert sum(one.used for one in ingresses) <= total
        assert sum(max(one.held, one.used) for one in ingresses) <= total
    for one in ingresses:  # and what is free is not lost
        one.used = one.wanted = 0
    rounds(ingresses)
    ingresses[0].ask(total)
    rounds(ingresses)
    assert ingresses[0].used == total
