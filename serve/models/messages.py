"""Messages between an ingress and the controller: the ingress's report, and the orders that answer it."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve.models.catalog import Catalog
from serve.models.version import Version
from serve.shares.ledger import ShareState


@dataclass
class Usage:
    """Requests to a version since an ingress started, and those in flight. ``last`` is in seconds since 1970."""

    requests: int = 0
    present: int = 0
    last: float | None = None

    def plus(self, other: Usage) -> Usage:
        """Return the usage of both."""
        last = max((one for one in (self.last, other.last) if one is not None), default=None)
        return Usage(self.requests + other.requests, self.present + other.present, last)


@dataclass(frozen=True)
class IngressReport:
    """An ingress's report: the catalogue that it answers by, its requests, and its shares of the bounds.

    ``ingress`` is the name of its actor in Ray. ``revision`` is 0 before it has a catalogue. ``number`` grows: an
    answer to an earlier report is void.
    """

    ingress: str
    number: int
    revision: int
    usages: dict[Version, Usage] = field(default_factory=dict)
    shares: dict[str, ShareState] = field(default_factory=dict)


@dataclass(frozen=True)
class Orders:
    """The controller's answer: the catalogue to answer by (None: the same), and what to hold of each bound.

    ``full`` are bounds of which the ingress wants more and nobody has any left. ``nodes`` are the ids
    of those with replicas.
    """

    revision: int
    catalog: Catalog | None
    shares: dict[str, int] = field(default_factory=dict)
    full: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
