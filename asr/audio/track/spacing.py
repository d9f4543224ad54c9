"""Spacing of a track's packets, in a container where all are equally far apart unless some are lost."""

from __future__ import annotations

import math

ROUNDING_S = 0.002  # times are milliseconds


class Spacing:
    """Checks packets in their order: the position of each in the file, and its time stamp in ticks of ``tick_s``."""

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._usual_s = math.inf  # from one packet to the next
        self._stamp = 0
        self.position = -1
        """Position of the last packet, -1 before there is one."""

    def goes_back(self, stamp: int) -> bool:
        """Return whether a stamp is before the last packet's."""
        return self.position >= 0 and stamp < self._stamp

    def late_s(self, position: int, stamp: int) -> float:
        """Return how many seconds later than usual a packet comes, 0 for less than rounding; take note of it."""
        first, step_s = self.position < 0, (stamp - self._stamp) * self._tick_s
        self.position, self._stamp = position, stamp
        if first or step_s <= 0.0:
            return 0.0
        self._usual_s = min(self._usual_s, step_s)
        late_s = step_s - self._usual_s
        return late_s if late_s > ROUNDING_S else 0.0
