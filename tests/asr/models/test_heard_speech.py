from __future__ import annotations

from typing import Any

import pytest

from asr.models.heard_speech import packed_s, speech_s


@pytest.mark.parametrize(
    ("config", "data", "expected"),
    [
        ({"packing": {"window_s": 20.0}}, {"clips": 10, "audio_s": 20.0}, 20.0),
        ({"packing": {"window_s": None}}, {"clips": 10, "audio_s": 20.0}, 8.0),
        ({"packing": "30s"}, {}, None),
        ({}, {"clips": 0, "audio_s": 0.0}, None),
        ({}, {"clips": "many", "audio_s": 20.0}, None),
        ({}, {"clips": 10, "audio_s": 120.0}, 48.0),
    ],
)
def test_a_packed_window_tells_more_than_the_clips_and_nonsense_tells_nothing(
    config: dict[str, Any], data: dict[str, Any], expected: float | None
) -> None:
    assert speech_s(config, data) == expected


@pytest.mark.parametrize("seconds", ["20", -1.0, None, 0])
def test_a_window_that_is_no_length_is_none(seconds: object) -> None:
    assert packed_s({"packing": {"window_s": seconds}}) is None
