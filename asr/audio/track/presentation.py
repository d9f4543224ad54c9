"""Presentation times of a file's frames: the container's clock, silence where it jumps, and what damage removed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

# Live recordings jitter by some 10 ms, and Matroska rounds to milliseconds. FFmpeg's own `aresample=async` acts at the
# same 0.1 s. It is the sum that counts, so no word is ever further from its true time.
TOLERANCE_S = 0.1
LEAD_S = 0.005  # a beginning is exact: nothing has been played yet that could jitter

# Where time may pass without sound: a muted microphone sends no packets. In all other formats packets follow each other
# without a gap, so that one is damage.
MAY_PAUSE = frozenset({"matroska", "mov", "avi", "flv", "asf", "mpegts", "mpeg"})
# A pause takes no bytes: what is more than headers take, and a share of what sound would have taken, is lost sound.
UNREAD_BYTES, UNREAD_SHARE = 2048, 0.1
# Nothing but frames end to end: FFmpeg counts what it finds, and what it does not find has no time. Bytes tell it.
UNTIMED = frozenset({"aac", "ac3", "amr", "amrnb", "amrwb", "dts", "eac3", "loas", "latm", "mp3"})
# Each frame says which sample it begins with: there is no jitter, and what is missing is missing.
EXACT = frozenset({"flac"})
MERGED_S = 0.5  # damaged stretches this near to each other are told as one


@dataclass
class Stretches:
    """Stretches of a file, in seconds from its beginning, as they are found, as far as they lie between two times."""

    after_s: float = 0.0
    before_s: float = math.inf
    found: list[tuple[float, float]] = field(default_factory=list)
    total_s: float = 0.0

    def add(self, start_s: float, end_s: float) -> None:
        start_s, end_s = max(start_s, self.after_s), min(end_s, self.before_s)
        if start_s >= end_s:
            return
        self.total_s += end_s - start_s
        if self.found and start_s - self.found[-1][1] < MERGED_S:
            self.found[-1] = (self.found[-1][0], end_s)
        else:
            self.found.append((start_s, end_s))

    def told(self) -> str:
        """Return ``from 6.34 to 6.37 s``, and how many more there are."""
        (start_s, end_s), more = self.found[0], len(self.found) - 1
        first = f"from {start_s:.2f} to {end_s:.2f} s"
        return f"{first} and at {more} more place{'s' * (more > 1)}, {self.total_s:.2f} s in all" if more else first


class Clock:
    """Places frame after frame on the container's clock, whose zero is ``origin_s`` in time stamps.

    Time stamps come in ticks of ``tick_s``. ``place`` says how much silence comes before a frame, in seconds.
    ``damaged`` is silence that stands for what could not be decoded or is missing from a format that has no pauses,
    ``paused`` silence that the time stamps ask for; both are told of what lies between ``after_s`` and ``before_s``.
    """

    def __init__(
        self, format_name: str, tick_s: float, origin_s: float, after_s: float = 0.0, before_s: float = math.inf
    ) -> None:
        names = format_name.split(",")
        self.untimed = not UNTIMED.isdisjoint(names)
        self._tolerance_s = LEAD_S if not EXACT.isdisjoint(names) else TOLERANCE_S
        self._may_pause = not MAY_PAUSE.isdisjoint(names)
        self._tick_s = tick_s
        self._origin_s = origin_s
        self._now_s: float | None = None  # where the last frame ended
        self._first = True  # whether the next frame is the track's first
        self._bytes, self._ticks = 0, 0  # of packets that were decoded
        self._lost_s: list[float] = []  # of packets that were not, since the last one that was
        self._lost_until_s = 0.0
        self._reached = 0
        self._skipped = 0  # bytes before the next frame that are in no packet
        self.damaged, self.paused = Stretches(after_s, before_s), Stretches(after_s, before_s)

    @property
    def now_s(self) -> float:
        """The end of the last frame, in seconds."""
        return self._now_s or 0.0

    @property
    def reached_s(self) -> float:
        """The end of the last decoded packet by its own duration, in seconds."""
        return self._reached * self._tick_s - self._origin_s

    def seconds(self, stamp: int | None) -> float | None:
        """Return a time stamp, in ticks of its track, as seconds of the container's clock."""
        return None if stamp is None else stamp * self._tick_s - self._origin_s

    def begin(self, start_s: float, lead: bool) -> None:
        """Have the first frame follow what ended at ``start_s``: decoding begins in the middle.

        ``lead``: it is the track's first frame all the same, and what is before it no pause and no damage.
        """
        self._now_s, self._first = start_s, lead

    def ignore(self, packet: av.Packet) -> None:
        """Take note of a packet that is no sound, though its time was counted."""
        self._skipped = 0
        if self._now_s is not None:
            self._origin_s += (packet.duration or 0) * self._tick_s

    def lose(self, packet: av.Packet, junk: bool = False) -> None:
        """Take note of a packet that cannot be decoded. ``junk``: it is no frame, and only its size tells its time."""
        own_s = (packet.duration or 0) * self._tick_s
        self._lost_s.append(max(own_s, self._seconds_of(packet.size)) if junk else own_s)
        begin_s = self.seconds(packet.pts)
        if begin_s is not None:
            self._lost_until_s = begin_s + own_s

    def miss(self, seconds: float) -> None:
        """Take note of so much sound before the next packet that came in none, as its time stamp tells too."""
        if seconds > 0.0:
            self._lost_s.append(seconds)

    def skip(self, count: int) -> None:
        """Take note of so many bytes before the next packet that belong to none."""
        self._skipped += count

    def keep(self, packet: av.Packet) -> None:
        """Take note of a packet that was decoded: how many bytes are how many seconds."""
        self._bytes += packet.size
        self._ticks += packet.duration or 0
        if packet.pts is not None:
            self._reached = packet.pts + (packet.duration or 0)

    def place(self, frame: av.AudioFrame) -> float:
        """Return the seconds of silence before a frame. Frames never go back: a clock that does begins anew."""
        own_s = frame.samples / frame.sample_rate
        first, self._first = self._first, False
        now_s = self.now_s
        stamp_s = self.seconds(frame.pts)
        ahead_s = 0.0 if stamp_s is None else stamp_s - now_s
        silent_s = self._silence(ahead_s, first, timed=stamp_s is not None)
        if stamp_s is not None and (ahead_s < -TOLERANCE_S or (self._lost and self.untimed)):
            self._origin_s += ahead_s - silent_s
        if silent_s:
            self._tell(now_s, now_s + silent_s, first)
        self._lost_s, self._skipped = [], 0
        self._now_s = now_s + silent_s + own_s
        return silent_s

    def finish(self, until_s: float) -> None:
        """Add silence as long as the packets lost behind the last frame, but not beyond ``until_s``."""
        # Behind the end of a stream that is nothing but frames it is junk, and no sound.
        if self._lost_s and not self.untimed and self._now_s is not None:
            self.fill(min(self._lost_until_s, until_s), damaged=True)

    def fill(self, until_s: float, damaged: bool) -> None:
        """Add silence until ``until_s``."""
        if until_s > self.now_s + LEAD_S:  # less is the padding of a last packet
            (self.damaged if damaged else self.paused).add(self.now_s, until_s)
            self._now_s = until_s

    def follow(self, other: Clock) -> None:
        """Go on behind what another clock, which began at zero, has placed behind this one's."""
        for mine, its in ((self.damaged, other.damaged), (self.paused, other.paused)):
            for start_s, end_s in its.found:
                mine.add(self.now_s + start_s, self.now_s + end_s)
        self._now_s = self.now_s + other.now_s

    @property
    def _lost(self) -> bool:
        return bool(self._lost_s) or (self.untimed and self._skipped > 0)

    def _seconds_of(self, count: int) -> float:
        """Return how long so many bytes of a stream that is nothing but frames sound, by those that did."""
        return count * self._ticks * self._tick_s / self._bytes if self._bytes else 0.0

    def _silence(self, ahead_s: float, first: bool, timed: bool) -> float:
        if self.untimed and self._lost:
            return 0.0 if first else sum(self._lost_s) + self._seconds_of(self._skipped)  # junk in front is no sound
        if self._lost_s and not first:
            return max(ahead_s, 0.0) if timed else sum(self._lost_s)
        return ahead_s if ahead_s > (LEAD_S if first else self._tolerance_s) else 0.0

    def _tell(self, start_s: float, end_s: float, first: bool) -> None:
        if end_s - start_s < LEAD_S:
            return  # of a block that an encoder cut off at the end
        took = (end_s - start_s) * self._bytes / (self._ticks * self._tick_s) if self._ticks else math.inf
        unread = self._skipped > max(UNREAD_BYTES, UNREAD_SHARE * took)
        if self._lost or unread or not (first or self._may_pause):
            self.damaged.add(start_s, end_s)
        elif not first:
            self.paused.add(start_s, end_s)
