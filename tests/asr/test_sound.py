from __future__ import annotations

import pickle

import pytest

from asr.errors import UserError
from asr.sound import NAMED, SoundChoice


@pytest.mark.parametrize(
    ("channel", "index"), [("auto", None), ("mix", None), ("each", None), ("left", 0), ("right", 1), ("0", 0), ("7", 7)]
)
def test_which_channel_a_name_means(channel: str, index: int | None) -> None:
    choice = SoundChoice(2, channel)
    assert choice.index == index
    assert pickle.loads(pickle.dumps(choice)) == choice


@pytest.mark.parametrize("channel", ["Left", "-1", "512", "", "both", "1.0", "²"])
def test_no_channel_of_that_name(channel: str) -> None:
    with pytest.raises(UserError, match="channel is one of") as caught:
        SoundChoice(channel=channel)
    assert all(name in caught.value.message for name in NAMED)


@pytest.mark.parametrize("track", [-1, 512])
def test_no_track_of_that_number(track: int) -> None:
    with pytest.raises(UserError, match="track is a number from 0"):
        SoundChoice(track)
