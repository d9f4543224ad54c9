from __future__ import annotations

from asr.models.alignment import SegmentLimits
from asr.models.processor import LONGEST_WINDOW_S


def test_a_segment_fits_the_window_of_any_family_with_room() -> None:
    limits = SegmentLimits()
    assert 1.0 < limits.max_s < LONGEST_WINDOW_S
    assert limits.min_confidence < 0
