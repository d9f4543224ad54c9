"""Time stamps that jump and come back: one wrong bit in a stamp would move all that follows by seconds or hours."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from asr.audio.track.packets import PacketAt
from asr.audio.track.presentation import TOLERANCE_S

WITHIN_S = 6.0  # Matroska has one time for a cluster of up to 5 s, and each packet tells how far it is from that
MAX_HELD = 5000


def steady(packets: Iterable[PacketAt], tick_s: float) -> Iterator[PacketAt]:
    """Yield packets whose stamps, in ticks of ``tick_s``, lie where those that come back behind them show.

    A pause, or a clock that begins anew, does not come back: ``WITHIN_S`` behind it, it is believed.
    """
    coming = iter(packets)
    held: deque[PacketAt] = deque()
    due: int | None = None  # where the next packet is expected
    while True:
        found = held[0] if held else next(coming, None)
        if found is None:
            return
        if not held:
            held.append(found)
        stamp = found.packet.pts
        if stamp is not None and due is not None and abs(stamp - due) * tick_s > TOLERANCE_S:
            for astray in list(held)[: _come_back(held, coming, due, tick_s)]:
                _move(astray.packet, due - stamp)
        held.popleft()
        if found.packet.pts is not None:
            due = _end(found)
        yield found


def _come_back(held: deque[PacketAt], coming: Iterator[PacketAt], due: int, tick_s: float) -> int:
    """Return how many packets, the first of ``held`` among them, lie before one that takes their jump back.

    0 where none does. Holds as many more as it must look at. ``due`` is where the first was expected.
    """
    first, end = held[0].packet.pts, _end(held[0])
    for number in range(1, MAX_HELD):
        if number == len(held):
            found = next(coming, None)
            if found is None:
                return 0
            held.append(found)
        stamp = held[number].packet.pts
        if stamp is None:
            continue
        if abs((stamp - end) + (first - due)) * tick_s <= TOLERANCE_S:
            return number
        if abs(stamp - first) * tick_s > WITHIN_S:
            return 0
        end = _end(held[number])
    return 0


def _end(found: PacketAt) -> int:
    return int(found.packet.pts + (found.packet.duration or 0))


def _move(packet: object, ticks: int) -> None:
    for name in ("pts", "dts"):
        stamp = getattr(packet, name)
        if stamp is not None:
            setattr(packet, name, stamp + ticks)
