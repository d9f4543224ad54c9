"""Ledger of one bound of the whole endpoint: the share of it that each ingress may use.

The shares together never exceed the bound: what one ingress is given was given back by another before. All amounts are
whole numbers (requests, milliseconds of audio).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# Each ingress keeps so much of an equal share, so that its next request need not wait for others to give some back.
KEPT = 0.25
# Before an endpoint is called full, what the others use is known as of so many seconds ago.
FRESH_S = 0.1

Clock = Callable[[], float]


@dataclass(frozen=True)
class ShareState:
    """An ingress's state of one bound: what it may use (``held``), uses, and wants beside that.

    ``total`` is the whole bound. The share of an ingress that dies counts as used for ``keep_s`` more seconds: requests
    in a minute were made, whoever counted them.
    """

    total: int
    held: int
    used: int
    wanted: int = 0
    keep_s: float = 0.0


@dataclass
class _Account:
    """``promised`` is the most that it may hold before its next report."""

    state: ShareState
    ordered: int
    promised: int
    at: float

    @property
    def is_short(self) -> bool:
        """Return whether it wants more than it is ordered to hold."""
        return self.state.wanted > 0 and self.state.used + self.state.wanted > self.ordered


class Ledger:
    """Shares of one bound. Each ingress reports; ``ordered`` is what it is to hold from then on."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._total = 0
        self._accounts: dict[str, _Account] = {}
        self._left: list[tuple[float, int]] = []  # until when, and how much
        self._closed = False
        self.stale: set[str] = set()  # who hold some, are wanted to give it back, and have not reported for a while

    def report(self, ingress: str, state: ShareState | None) -> None:
        """Take down what an ingress says of itself (None: no share); what it was ordered before counts no more."""
        if state is None:
            self._accounts.pop(ingress, None)
        else:
            self._total = state.total
            self._accounts[ingress] = _Account(state, state.held, max(state.held, state.used), self._clock())

    def leave(self, ingress: str) -> None:
        """Take an ingress out that has died."""
        account = self._accounts.pop(ingress, None)
        if account is not None and account.state.keep_s:
            self._left.append((self._clock() + account.state.keep_s, account.promised))

    def ordered(self, ingress: str) -> int | None:
        """Return what an ingress is to hold; None where it has not reported this bound."""
        account = self._accounts.get(ingress)
        return None if account is None else account.ordered

    @property
    def is_empty(self) -> bool:
        """Return whether it holds nothing that would be missed."""
        return not self._accounts and not self._left

    @property
    def changed(self) -> list[str]:
        """The ingresses that have something to hear: another share, that there is none, or that they are to report."""
        return [name for name in self._accounts if self.has_news(name)]

    def has_news(self, ingress: str) -> bool:
        """Return whether an ingress is ordered another share than it has, gets none, or is to report anew."""
        account = self._accounts.get(ingress)
        if account is None:
            return False
        return account.ordered != account.state.held or ingress in self.stale or self.is_full(ingress)

    def is_full(self, ingress: str) -> bool:
        """Return whether an ingress that wants more gets none: nobody has any left that could be given back."""
        account = self._accounts.get(ingress)
        if self._closed or self.stale or account is None or not account.is_short:
            return False
        return not any(other.ordered < other.state.held for other in self._accounts.values())

    def settle(self, closed: bool = False) -> None:
        """Order what each is to hold. ``closed``: give nobody more, because some ingress has not reported yet."""
        self._closed = closed
        self._left = [(until, amount) for until, amount in self._left if until > self._clock()]
        bound = max(self._total - sum(amount for _, amount in self._left), 0)
        kept = int(KEPT * bound / max(len(self._accounts), 1))
        needs = {name: one.state.used + one.state.wanted for name, one in self._accounts.items()}
        demands = {name: max(need, kept) for name, need in needs.items()}
        targets = shared_out(bound, needs)
        free = 0 if closed else bound - sum(one.promised for one in self._accounts.values())
        for wanted in (demands, targets):  # what is needed before what may be needed
            for name, account in self._accounts.items():
                grown = max(min(wanted[name], targets[name]) - account.promised, 0)
                grown = min(grown, max(free, 0))
                account.promised += grown
                free -= grown
        short = any(one.promised < min(demands[name], targets[name]) for name, one in self._accounts.items())
        for name, account in self._accounts.items():
            least = max(targets[name], account.state.used)
            account.ordered = min(account.promised, least) if short else account.promised
        self._ask_again()

    def _ask_again(self) -> None:
        due = self._clock() - FRESH_S
        is_short = any(one.is_short for one in self._accounts.values())
        self.stale = {
            name
            for name, one in self._accounts.items()
            if is_short and one.at < due and one.state.held and not one.is_short
        }


class Bounds:
    """The ledgers of all bounds, by their names."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._ledgers: dict[str, Ledger] = {}
        self._reported: dict[str, set[str]] = {}

    def report(self, ingress: str, states: Mapping[str, ShareState], closed: bool = False) -> set[str]:
        """Take down an ingress's report, and return the ingresses that have other orders now; see ``Ledger.settle``."""
        names = states.keys() | self._reported.get(ingress, set())
        self._reported[ingress] = set(states)
        for name in names:
            self._ledgers.setdefault(name, Ledger(self._clock)).report(ingress, states.get(name))
        return self._settle(names, closed)

    @property
    def stale(self) -> bool:
        """Return whether an ingress is to report anew, for which another one waits."""
        return any(ledger.stale for ledger in self._ledgers.values())

    def leave(self, ingress: str, closed: bool = False) -> set[str]:
        """Take an ingress out that has died, and return those that have other orders now."""
        names = self._reported.pop(ingress, set())
        for name in names:
            self._ledgers[name].leave(ingress)
        return self._settle(names, closed)

    def settle(self, closed: bool = False) -> set[str]:
        """Order everything anew, and return the ingresses that have other orders now."""
        return self._settle(set(self._ledgers), closed)

    def has_news(self, ingress: str) -> bool:
        """Return whether an ingress has something to hear: another share, or that it is to report anew."""
        return any(self._ledgers[name].has_news(ingress) for name in self._reported.get(ingress, set()))

    def orders(self, ingress: str) -> tuple[dict[str, int], frozenset[str]]:
        """Return what an ingress is to hold of each bound that it reported, and the bounds without room for it."""
        ledgers = {name: self._ledgers[name] for name in self._reported.get(ingress, set())}
        held = {name: ledger.ordered(ingress) or 0 for name, ledger in ledgers.items()}
        return held, frozenset(name for name, ledger in ledgers.items() if ledger.is_full(ingress))

    def _settle(self, names: Iterable[str], closed: bool) -> set[str]:
        changed: set[str] = set()
        for name in names:
            ledger = self._ledgers[name]
            ledger.settle(closed)
            changed.update(ledger.changed)
            if ledger.is_empty:
                del self._ledgers[name]
        return changed


def shared_out(total: int, demands: Mapping[str, int]) -> dict[str, int]:
    """Return each one's share of ``total``: its demand and as much again of what is left over as everybody.

    Where there is too little for all, the small demands are met, and the others get the same.
    """
    left, shares = total, dict.fromkeys(demands, 0)
    waiting = sorted(demands, key=lambda name: (demands[name], name))
    for place, name in enumerate(waiting):
        shares[name] = min(demands[name], left // (len(waiting) - place))
        left -= shares[name]
    for place, name in enumerate(waiting):
        extra = left // (len(waiting) - place)
        shares[name] += extra
        left -= extra
    return shares
