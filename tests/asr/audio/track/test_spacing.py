from __future__ import annotations

from asr.audio.track.spacing import Spacing


def lates(stamps: list[int]) -> list[float]:
    spacing = Spacing(0.001)
    return [round(spacing.late_s(number, stamp), 3) for number, stamp in enumerate(stamps)]


def test_what_comes_later_than_usual_is_late() -> None:
    assert lates([0, 20, 40, 540, 560]) == [0.0, 0.0, 0.0, 0.48, 0.0]
    assert lates([500, 520, 541, 560]) == [0.0, 0.0, 0.0, 0.0]  # rounded
    assert lates([0, 0, 20, 20, 40]) == [0.0] * 5


def test_only_a_packet_behind_another_goes_back() -> None:
    spacing = Spacing(0.001)
    assert not spacing.goes_back(-5)
    spacing.late_s(7, 100)
    assert spacing.position == 7 and spacing.goes_back(99) and not spacing.goes_back(100)
