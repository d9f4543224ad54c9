from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.models.whisper.fallback import (
    TEMPERATURES,
    best,
    fails,
    is_silence,
    without_silence,
)
from asr.scoring.repetition import MAX_COMPRESSION_RATIO
from asr.transcript import Segment, Transcript


def heard(ratio: float = 1.0, logprob: float = -0.3, no_speech: float = 0.0, text: str = "a word") -> Transcript:
    spoken = (Segment(0.0, 1.0, text, (1, 2)),)
    return Transcript(text, (1, 2), "en", spoken, (), logprob, no_speech, ratio)


transcripts = st.builds(
    heard, st.floats(0.1, 20.0), st.floats(-3.0, 0.0), st.floats(0.0, 1.0), st.text(min_size=1, max_size=5)
)


@pytest.mark.parametrize(
    ("transcript", "failed", "silent"),
    [
        (heard(), False, False),
        (heard(ratio=2.4, logprob=-1.0), False, False),
        (heard(ratio=2.41), True, False),
        (heard(logprob=-1.01), True, False),
        (heard(logprob=float("nan")), True, False),
        (heard(logprob=-1.01, no_speech=0.61), False, True),
        (heard(logprob=-1.01, no_speech=0.6), True, False),
        (heard(logprob=-0.9, no_speech=0.99), False, False),
        (heard(ratio=3.0, logprob=-0.9, no_speech=0.99), True, False),
    ],
)
def test_what_fails_and_what_is_silence(transcript: Transcript, failed: bool, silent: bool) -> None:
    assert (fails(transcript), is_silence(transcript)) == (failed, silent)


@given(transcripts)
def test_only_silence_loses_its_words(transcript: Transcript) -> None:
    after = without_silence(transcript)
    if is_silence(transcript):
        assert (after.text, after.tokens, after.segments, after.words) == ("", (), (), ())
        assert (after.no_speech_prob, after.avg_logprob) == (transcript.no_speech_prob, transcript.avg_logprob)
    else:
        assert after is transcript


@given(st.lists(transcripts, min_size=1, max_size=6))
def test_the_best_is_what_passed_else_the_likeliest_that_does_not_loop(attempts: list[Transcript]) -> None:
    chosen = best(attempts)
    if not fails(attempts[-1]):
        assert chosen is attempts[-1]
        return
    calm = [one for one in attempts if one.compression_ratio <= MAX_COMPRESSION_RATIO]
    assert (chosen in calm) == bool(calm)
    assert all(chosen.avg_logprob >= one.avg_logprob for one in calm or attempts)


def test_temperatures_rise_to_one() -> None:
    assert list(TEMPERATURES) == sorted(set(TEMPERATURES))
    assert (TEMPERATURES[0], TEMPERATURES[-1]) == (0.2, 1.0)
