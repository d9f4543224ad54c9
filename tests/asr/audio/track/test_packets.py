from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.track.packets import Packets
from tests.asr.sounds import Voice, muxed, tone


def listed(data: bytes) -> tuple[list[int], list[int]]:
    """Return the time stamps of the audio track's packets, and the bytes before each that are in none."""
    file = io.BytesIO(data)
    with av.open(file) as media:
        found = [each for each in Packets(media, media.streams.audio[0], file) if each.packet.size]
        return [each.packet.pts for each in found], [each.skipped for each in found]


@pytest.mark.medium
@pytest.mark.parametrize("picture_s", [0.0, 8.0])
@pytest.mark.parametrize("pause_s", [0.0, 2.0])
def test_in_a_whole_matroska_next_to_nothing_is_passed_over(tmp_path: Path, picture_s: float, pause_s: float) -> None:
    voice = Voice(tone(6.0), pause_at_s=3.0, pause_s=pause_s)
    times, skipped = listed(muxed(tmp_path / "a.mkv", "matroska", "aac", [voice], picture_s).read_bytes())
    assert len(times) > 90 and sum(skipped) < 40 * len(times) and max(skipped) < 400


@pytest.mark.parametrize("picture_s", [0.0, 8.0])
def test_what_was_passed_over_is_counted(tmp_path: Path, picture_s: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 96_000).astype(np.float32)
    whole = muxed(tmp_path / "a.mkv", "matroska", "aac", [Voice(noise)], picture_s).read_bytes()
    at, count = len(whole) // 2, len(whole) // 8
    times, skipped = listed(whole[:at] + bytes(count) + whole[at + count :])
    assert len(times) < 90 and max(skipped) > 0.8 * count
