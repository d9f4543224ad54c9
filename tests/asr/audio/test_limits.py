from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from asr.audio.decode import decode, encode_flac
from asr.audio.limits import AudioLimits
from asr.errors import DataError


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (AudioLimits(max_bytes=100), "too_large"),
        (AudioLimits(max_source_samples=100), "too_large"),
        (AudioLimits(max_audio_s=0.5), "too_long"),
        (AudioLimits(min_audio_s=2.0), "too_short"),
    ],
)
def test_each_limit_holds(limits: AudioLimits, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode(encode_flac(np.zeros(16_000)), limits=limits)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValidationError, match="max_damaged_share"):
        AudioLimits(max_damaged_share=share)
