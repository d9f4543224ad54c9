from __future__ import annotations

import numpy as np
import pytest

from train.augmentation.resample import fitted, resample


@pytest.mark.parametrize(("from_hz", "to_hz"), [(16_000, 8_000), (17_600, 16_000), (14_400, 16_000)])
def test_a_tone_keeps_its_frequency_and_phase(from_hz: int, to_hz: int) -> None:
    times = np.arange(from_hz) / from_hz
    length = to_hz
    heard = resample(np.sin(2 * np.pi * 440 * times).astype(np.float32), from_hz, to_hz, length)
    assert heard.shape == (length,) and heard.dtype == np.float32
    expected = np.sin(2 * np.pi * 440 * np.arange(length) / to_hz)
    assert np.abs(heard - expected)[200:-200].max() < 0.01


def test_the_length_is_exact() -> None:
    ramp = np.arange(1, 6, dtype=np.float32)
    assert fitted(ramp, 3).tolist() == [1, 2, 3]
    assert fitted(ramp, 7).tolist() == [1, 2, 3, 4, 5, 0, 0]
    assert resample(np.ones(1, np.float32), 16_000, 17_600, 1).shape == (1,)
