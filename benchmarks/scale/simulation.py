"""Simulation of ten thousand requests a second in virtual time: our queue, admission and autoscaling, from a seed.

Only time is made up. Replicas take batches from ``serve.replica.scheduler.FairScheduler``, ingresses let in by the
``Admission`` of ``serve.ingress.limits``, the number of replicas is what ``serve.replica.autoscaling`` says. A batch
takes ``fixed + each * audio`` seconds, measured here with the real engine.
Serve's router is imitated: of two replicas by lot the one with fewer windows.
"""

from __future__ import annotations

import heapq
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from asr.audio.decode import SAMPLE_RATE, decode
from asr.transcript import DecodingRequest
from benchmarks.provenance import tell
from benchmarks.scale.corpora import language, speech
from benchmarks.scale.doors import Door, Doors
from benchmarks.scale.figures import Figure, Sizes, median_core_s
from benchmarks.serving.speech import joined
from serve.config import Replicas, ServeConfig
from serve.errors import ApiError
from serve.ingress.limits.admission import Ticket
from serve.replica.autoscaling import BATCHES_EACH, LOOK_BACK_S, QUEUED_AUDIO, QueuedAudio
from serve.replica.engine_loader import load_engine
from serve.replica.scheduler import FairScheduler, QueuedWindow

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

WINDOW_S = 30.0
BUDGET_S = 240.0
HOUSE_BATCHES = 4  # of audio for each replica, that ingresses let in together
_UTILISATIONS = (0.5, 0.8, 0.95, 1.2)
_INGRESSES = 40
_UNEVEN = 10.0
_SETTLED = 0.8  # of the time: what came before is not counted
_TICK_S = 1.0

_Asked = tuple[float, Ticket, Callable[[], None]]
"""When a window came, its place in the line, and what is done when it leaves."""


@dataclass(frozen=True)
class Service:
    """Duration of a batch: fixed seconds, and seconds for each second of audio."""

    fixed_s: float
    per_audio_s: float

    def seconds(self, audio_s: float) -> float:
        """Return the seconds of a batch."""
        return self.fixed_s + self.per_audio_s * audio_s

    @property
    def most_per_s(self) -> float:
        """Windows of 30 s that a replica answers in a second, when its batches are full."""
        return BUDGET_S / WINDOW_S / self.seconds(BUDGET_S)


@dataclass(eq=False)
class _Replica:
    scheduler: FairScheduler[_Asked] = field(default_factory=FairScheduler)
    windows: int = 0
    audio_s: float = 0.0
    busy: bool = False
    leaving: bool = False


@dataclass
class Outcome:
    """Outcome of the requests that came after the settling, and how long ``take`` took in real time."""

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    asked: int = 0
    replicas: list[int] = field(default_factory=list)
    takes: int = 0
    take_s: float = 0.0

    def percentile_s(self, share: float) -> float:
        """Return a percentile of the latencies, NaN where nothing was answered."""
        return float(np.percentile(self.latencies_s, share)) if self.latencies_s else float("nan")

    @property
    def refused_share(self) -> float:
        """Share of the requests that were answered 429."""
        return self.refused / self.asked if self.asked else 0.0


class Simulation:
    """Requests of one window each, at ``rate(now)`` a second, through ``ingresses`` doors to ``replicas``."""

    def __init__(
        self, service: Service, replicas: int, ingresses: int, house_s: float, seed: int = 0, uneven: float = 1.0
    ) -> None:
        self.now = 0.0
        self.outcome = Outcome()
        self._service = service
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._replicas = [_Replica() for _ in range(replicas)]
        self.doors = Doors(ingresses, house_s, lambda: self.now, self._at)
        self._weights = [uneven if number == 0 else 1.0 for number in range(ingresses)]
        self._settled_s = 0.0

    def run(self, rate: Callable[[float], float], seconds: float, settled_s: float) -> Outcome:
        """Let requests come for so long; count those that come after ``settled_s``."""
        self._settled_s = settled_s
        self._at(self._random.expovariate(rate(0.0)), lambda: self._arrive(rate, seconds))
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            if self.now > 2 * seconds:
                break
            event()
        return self.outcome

    def scale(self, policy: QueuedAudio, config: ServeConfig, start_s: float, until_s: float) -> None:
        """Have the policy say how many replicas there are, with the delays that Serve applies to it."""
        seen: deque[list[float]] = deque(maxlen=int(LOOK_BACK_S / _TICK_S))
        wanted: deque[int] = deque()
        bounds = config.replicas

        def tick() -> None:
            present = [one for one in self._replicas if not one.leaving]
            seen.append([one.audio_s for one in present])
            mean_s = sum(sum(each) for each in seen) / len(seen)
            context = SimpleNamespace(aggregated_metrics={QUEUED_AUDIO: {"all": mean_s}})
            wanted.append(min(max(policy(cast("AutoscalingContext", context))[0], bounds.min), bounds.max))
            while len(wanted) > bounds.down_after_s / _TICK_S:
                wanted.popleft()
            number = self._decided(list(wanted), len(present) + coming[0], bounds.up_after_s, bounds.down_after_s)
            for _ in range(number - len(present) - coming[0]):
                coming[0] += 1
                self._at(self.now + start_s, begin)
            for one in present[number:]:
                one.leaving = True
            self._replicas = [one for one in self._replicas if not one.leaving or one.windows]
            self.outcome.replicas.append(len(present))
            if self.now < until_s:
                self._at(self.now + _TICK_S, tick)

        def begin() -> None:
            coming[0] -= 1
            self._replicas.append(_Replica())

        coming = [0]
        self._at(_TICK_S, tick)

    @staticmethod
    def _decided(wanted: list[int], present: int, up_after_s: float, down_after_s: float) -> int:
        """Return what Serve does: more when that was wanted all along for so long, fewer likewise."""
        up = wanted[-int(up_after_s / _TICK_S) :]
        if len(up) >= up_after_s / _TICK_S and min(up) > present:
            return wanted[-1]
        if len(wanted) >= down_after_s / _TICK_S and max(wanted) < present:
            return wanted[-1]
        return present

    def _at(self, moment: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), event))

    def _arrive(self, rate: Callable[[float], float], seconds: float) -> None:
        following = self.now + self._random.expovariate(rate(self.now))
        if following < seconds:
            self._at(following, lambda: self._arrive(rate, seconds))
        (door,) = self._random.choices(self.doors.all, self._weights)
        came = self.now
        self.doors.room(door, WINDOW_S, lambda: self._enter(door, came))

    def _enter(self, door: Door, came: float) -> None:
        counts = came >= self._settled_s
        self.outcome.asked += counts
        stack = ExitStack()
        try:
            ticket = stack.enter_context(door.admission.enter())
            ticket.expect(WINDOW_S)
        except ApiError:
            stack.close()
            self.outcome.refused += counts
            return
        self._send(came, ticket, stack.close)

    def _send(self, came: float, ticket: Ticket, leave: Callable[[], None]) -> None:
        two = (self._random.choice(self._replicas), self._random.choice(self._replicas))
        replica = min(two, key=lambda one: (one.leaving, one.windows))
        replica.scheduler.put(QueuedWindow((came, ticket, leave), str(next(self._numbers)), 0, WINDOW_S))
        replica.windows += 1
        replica.audio_s += WINDOW_S
        if not replica.busy:
            self._decode(replica)

    def _decode(self, replica: _Replica) -> None:
        begun = time.perf_counter()
        batch = replica.scheduler.take(BUDGET_S)
        self.outcome.take_s += time.perf_counter() - begun
        self.outcome.takes += 1
        replica.busy = bool(batch)
        if batch:
            audio_s = sum(window.audio_s for window in batch)
            self._at(self.now + self._service.seconds(audio_s), lambda: self._answer(replica, batch))

    def _answer(self, replica: _Replica, batch: list[QueuedWindow[_Asked]]) -> None:
        for window in batch:
            came, ticket, leave = window.item
            ticket.done(window.audio_s)
            leave()
            replica.windows -= 1
            replica.audio_s -= window.audio_s
            if came >= self._settled_s:
                self.outcome.latencies_s.append(self.now - came)
        self._decode(replica)


def simulation(sizes: Sizes) -> list[Figure]:
    """Return the figures of steady loads, of doors in numbers, and of a load that grows fivefold."""
    service = measured(sizes)
    figures = [
        Figure("a batch, whatever is in it", sizes.decoder, service.fixed_s, "s"),
        Figure("a window of 30 s in it", sizes.decoder, service.per_audio_s * WINDOW_S, "s"),
        Figure("windows of 30 s, batches full", sizes.decoder, service.most_per_s, "1/s per replica"),
    ]
    for utilisation in _UTILISATIONS:
        figures += steady(service, sizes, utilisation, 1)
    for utilisation in _UTILISATIONS[-2:]:
        for uneven in (1.0, _UNEVEN):
            figures += steady(service, sizes, utilisation, _INGRESSES, uneven)
    return figures + list(stepped(service, sizes))


def measured(sizes: Sizes) -> Service:
    """Return what batches take on this machine, with the real engine: one window of real speech, and as many as fit.

    Core time shared out over the cores, so that what else runs does not count.
    """
    tell("measuring batches of the real engine")
    engine = load_engine(ServeConfig(model=sizes.decoder, name="scale"))
    with TemporaryDirectory() as folder:
        clips, _ = speech(Path(folder), sizes.decoder, sizes.prompts)
        waveform = decode(joined(clips, WINDOW_S, Path(folder, "window.flac")).path)
    clip = DecodingRequest(engine.info.features(waveform[: int(WINDOW_S * SAMPLE_RATE)]), language(sizes.decoder))
    most, cores = int(BUDGET_S / WINDOW_S), os.cpu_count() or 1
    engine.decode([clip])
    one_s = median_core_s(lambda: engine.decode([clip]), sizes.rounds) / cores
    full_s = median_core_s(lambda: engine.decode([clip] * most), sizes.rounds) / cores
    per_audio_s = max(full_s - one_s, 0.05 * full_s) / (most - 1) / WINDOW_S
    return Service(max(one_s - per_audio_s * WINDOW_S, 0.0), per_audio_s)


def steady(service: Service, sizes: Sizes, utilisation: float, ingresses: int, uneven: float = 1.0) -> list[Figure]:
    """Return what requests meet at a share of what the replicas can do together.

    ``uneven``: the first ingress is asked so many times as often as each of the others.
    """
    replicas = max(1, round(sizes.offered_per_s / service.most_per_s / utilisation))
    tell(f"{sizes.offered_per_s:,.0f} requests a second to {replicas:,} replicas")
    simulated = Simulation(service, replicas, ingresses, replicas * HOUSE_BATCHES * BUDGET_S, uneven=uneven)
    batch_s = service.seconds(BUDGET_S)
    # Until an overload has filled the queue, or until batches have found their size.
    length_s = 1.2 * HOUSE_BATCHES * batch_s / (utilisation - 1.0) if utilisation > 1.0 else 10 * batch_s
    length_s = max(sizes.simulated_s, length_s)
    outcome = simulated.run(lambda now: sizes.offered_per_s, length_s, _SETTLED * length_s)
    at = f"{utilisation:.0%} of {replicas:,} replicas, {ingresses} {'ingress' if ingresses == 1 else 'ingresses'}"
    at += f", one asked {uneven:g} times as often" if uneven > 1.0 else ""
    doors = simulated.doors
    return [
        Figure("latency, median", at, outcome.percentile_s(50), "s"),
        Figure("latency, 99 of 100", at, outcome.percentile_s(99), "s"),
        Figure("the same, in full batches", at, outcome.percentile_s(99) / batch_s, "batches"),
        Figure("answered 429", at, 100 * outcome.refused_share, "%"),
        Figure("a batch taken from the line, real time", at, 1e6 * outcome.take_s / max(1, outcome.takes), "µs"),
        Figure("reports to the controller", at, doors.reports / length_s, "1/s"),
        Figure("one of them in the controller's ledger, real time", at, 1e6 * doors.report_s / doors.reports, "µs"),
    ]


def stepped(service: Service, sizes: Sizes) -> Iterator[Figure]:
    """Yield what scaling makes of a load that grows fivefold at once: a tenth of the requests, to be done in time."""
    most = sizes.offered_per_s / 10
    enough = max(1, round(most / service.most_per_s))
    bounds = Replicas(min=max(1, enough // 5), max=2 * enough)
    config = ServeConfig(model="fake", replicas=bounds)
    batch_s = service.seconds(BUDGET_S)
    grows_s, start_s, length_s = 10 * batch_s, 30.0, max(20 * batch_s + 120.0, sizes.simulated_s)
    tell(f"from {most / 5:,.0f} to {most:,.0f} requests a second, replicas as the policy says")
    simulated = Simulation(service, bounds.min, 1, enough * HOUSE_BATCHES * BUDGET_S)
    simulated.scale(QueuedAudio(BATCHES_EACH * BUDGET_S), config, start_s, length_s)
    outcome = simulated.run(lambda now: most / 5 if now < grows_s else most, length_s, grows_s)
    at = f"{most / 5:,.0f} to {most:,.0f} a second, {start_s:g} s until a replica is there"
    grown = outcome.replicas[int(grows_s) :]
    there = next((second for second, number in enumerate(grown) if number >= enough), None)
    yield Figure("replicas that the load needs, batches full", at, enough, "replicas")
    yield Figure("replicas at the end", at, grown[-1], "replicas")
    yield Figure("replicas at most", at, max(grown), "replicas")
    if there is not None:
        yield Figure("until as many are there", at, there, "s")
    yield Figure("latency, median", at, outcome.percentile_s(50), "s")
    yield Figure("latency, 99 of 100", at, outcome.percentile_s(99), "s")
    yield Figure("answered 429", at, 100 * outcome.refused_share, "%")
