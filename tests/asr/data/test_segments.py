from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.segments import LabelledSegment, segments, split
from asr.errors import DataError
from asr.utterance import Utterance


def lecture(*times: tuple[float, float], start_s: float = 0.0, duration_s: float | None = None) -> Utterance:
    given = [{"start": start, "end": end, "text": f" word{n} "} for n, (start, end) in enumerate(times)]
    return Utterance(
        "talk", "talk.wav", "all of it", duration_s, "it", start_s=start_s, meta={"segments": given, "room": "12"}
    )


@st.composite
def timelines(draw: st.DrawFn) -> list[tuple[float, float]]:
    steps = draw(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 3000)), min_size=1, max_size=40))
    times, at = [], 0
    for gap, length in steps:
        times.append(((at + gap) / 100, (at + gap + length) / 100))
        at += gap + length
    return times


@given(timelines(), st.floats(5.0, 30.0))
def test_every_segment_is_in_one_piece_and_no_piece_is_longer_than_asked(
    times: list[tuple[float, float]], max_s: float
) -> None:
    pieces = split(lecture(*times, start_s=100.0), max_s)
    assert [piece.id for piece in pieces] == [f"talk#{n}" for n in range(len(pieces))]
    assert " ".join(piece.text for piece in pieces) == " ".join(f"word{n}" for n in range(len(times)))
    left = list(times)
    for piece in pieces:
        mine, left = left[: len(piece.text.split())], left[len(piece.text.split()) :]
        assert piece.start_s == pytest.approx(100 + mine[0][0])
        assert piece.end_s == pytest.approx(100 + mine[-1][1])
        assert piece.duration_s == pytest.approx(mine[-1][1] - mine[0][0])
        assert len(mine) == 1 or (piece.duration_s or 0) <= max_s + 1e-6
        assert (piece.audio, piece.language, piece.meta) == ("talk.wav", "it", {"room": "12"})
        if left:  # it was filled: one more would not have fitted
            assert left[0][1] - mine[0][0] > max_s - 1e-6


def test_a_long_recording_without_segment_times_cannot_be_split() -> None:
    with pytest.raises(DataError) as caught:
        split(Utterance("talk", "talk.wav", "text", 45.5), 30.0)
    assert caught.value.args == ("too_long", "45.50 s, over 30 s, and no segment times to split it at")


@pytest.mark.parametrize(
    "bad",
    [
        "0-3",
        [{"start": 0, "end": 3}],
        [{"start": "a", "end": 3, "text": "x"}],
        [{"start": 2, "end": 2, "text": "x"}],
        [{"start": float("nan"), "end": 2, "text": "x"}],
        [{"start": -1, "end": 2, "text": "x"}],
        [{"start": 0, "end": 3, "text": "x"}, {"start": 2, "end": 4, "text": "y"}],
        [{"start": 0, "end": 61, "text": "x"}],
        [3],
    ],
)
def test_times_that_cannot_be_are_quarantined(bad: Any) -> None:
    with pytest.raises(DataError) as caught:
        split(Utterance("talk", "talk.wav", "text", 60.0, meta={"segments": bad}), 30.0)
    assert caught.value.reason == "bad_segments"


def test_segments_as_given() -> None:
    assert segments(lecture((0.5, 1.0), (1.0, 2.5))) == [
        LabelledSegment(0.5, 1.0, " word0 "),
        LabelledSegment(1.0, 2.5, " word1 "),
    ]
    assert segments(Utterance("short", "short.wav")) == []
