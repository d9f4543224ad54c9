from __future__ import annotations

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE
from asr.audio.limits import AudioLimits
from asr.audio.track.stretch import Stretch
from asr.errors import DataError


def kept(start_s: float, end_s: float | None, blocks: list[int], **limits: float) -> tuple[Stretch, np.ndarray]:
    """Hand over a count from 0 on, in blocks of so many samples."""
    parts: list[np.ndarray] = []
    stretch = Stretch("here", start_s, end_s, AudioLimits(**limits), parts.append)
    position = 0
    for count in blocks:
        stretch.add(np.arange(position, position + count, dtype=np.float32))
        position += count
    return stretch, np.concatenate(parts) if parts else np.empty(0, np.float32)


@pytest.mark.parametrize("blocks", [[16_000], [1] * 5 + [15_995], [4_000] * 4, [7_999, 2, 7_999]])
def test_the_same_samples_are_kept_whatever_the_blocks(blocks: list[int]) -> None:
    stretch, samples = kept(0.25, 0.75, blocks)
    assert samples.tolist() == list(range(4_000, 12_000)) and stretch.complete and stretch.checked() == 8_000


def test_a_stretch_to_the_end_is_never_complete() -> None:
    stretch, samples = kept(0.5, None, [SAMPLE_RATE])
    assert not stretch.complete and len(samples) == 8_000


@pytest.mark.parametrize(
    ("start_s", "end_s", "reason"), [(2.0, None, "no_samples"), (0.0, 0.001, "too_short"), (0.0, None, "non_finite")]
)
def test_what_is_no_audio_has_its_reason(start_s: float, end_s: float | None, reason: str) -> None:
    stretch, _ = kept(start_s, end_s, [SAMPLE_RATE])
    if reason == "non_finite":
        stretch.add(np.array([np.nan, np.inf, 0.0], np.float32))
    with pytest.raises(DataError, match=reason):
        stretch.checked()


def test_too_long_is_told_while_it_comes() -> None:
    with pytest.raises(DataError, match="too_long"):
        kept(0.0, None, [SAMPLE_RATE, 1], max_audio_s=1.0)
    kept(0.5, None, [SAMPLE_RATE, 1], max_audio_s=1.0)


def test_silence_lasts_until_its_time() -> None:
    stretch, _ = kept(0.0, None, [SAMPLE_RATE])
    blocks = list(stretch.silence(200.0))
    assert sum(map(len, blocks)) == 199 * SAMPLE_RATE and not any(block.any() for block in blocks) and len(blocks) > 1
    assert not list(stretch.silence(0.5))
