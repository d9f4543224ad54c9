from __future__ import annotations

import numpy as np
import pytest

from asr.errors import DataError
from asr.limits import AudioLimits
from asr.stretch import Stretch

SECOND = np.arange(16_000, dtype=np.float32)


def test_only_what_is_wanted_is_handed_over() -> None:
    blocks: list[np.ndarray] = []
    stretch = Stretch("a", 0.5, 1.5, AudioLimits(), blocks.append)
    for _ in range(2):
        assert not stretch.complete
        stretch.add(SECOND)
    assert stretch.complete and stretch.checked() == 16_000
    assert np.array_equal(np.concatenate(blocks), np.concatenate([SECOND[8_000:], SECOND[:8_000]]))


@pytest.mark.parametrize(
    ("limits", "blocks", "reason"),
    [
        (AudioLimits(max_audio_s=1.5), [SECOND, SECOND], "too_long"),
        (AudioLimits(min_audio_s=2.0), [SECOND], "too_short"),
        (AudioLimits(), [], "no_samples"),
        (AudioLimits(), [np.full(16_000, np.nan, np.float32)], "non_finite"),
    ],
)
def test_limits_hold_for_what_is_handed_over(limits: AudioLimits, blocks: list[np.ndarray], reason: str) -> None:
    stretch = Stretch("a", 0.0, None, limits, len)
    with pytest.raises(DataError) as caught:
        for block in blocks:
            stretch.add(block)
        stretch.checked()
    assert caught.value.reason == reason
