"""A long recording and the whole of its text, which fit each other in most places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.models.ctc import long_alignment
from asr.models.ctc.long_alignment import EmissionBlock, SegmentSpan, align_long

BLANK, SYMBOLS, POSITION_S = 5, 30, 0.02


def sentence(generator: np.random.Generator, length: int = 40) -> list[int]:
    """Random tokens, none the blank."""
    return ((generator.integers(1, SYMBOLS, length) + BLANK) % SYMBOLS).tolist()


class Speaker:
    """Speaks sentences to a CTC network that hears every symbol at one position, one in ten falsely."""

    def __init__(self, seed: int = 0, mishearing: float = 0.1) -> None:
        self.generator, self._mishearing = np.random.default_rng(seed), mishearing
        self._heard: list[int] = [BLANK] * 10

    def sentences(self, count: int) -> list[list[int]]:
        return [sentence(self.generator) for _ in range(count)]

    def says(self, tokens: Sequence[int]) -> tuple[float, float]:
        """Say a sentence and pause; return when its first and last symbols are heard."""
        start = len(self._heard)
        for token in tokens:
            misheard = self.generator.random() < self._mishearing
            self._heard += [sentence(self.generator, 1)[0] if misheard else token]
            self._heard += [BLANK] * self.generator.integers(1, 5)
        end = len(self._heard)
        self._heard += [BLANK] * self.generator.integers(10, 30)
        return start * POSITION_S, end * POSITION_S

    def logprobs(self) -> NDArray[np.float32]:
        rows_TV = self.generator.random((len(self._heard), SYMBOLS), dtype=np.float32) * 0.002
        rows_TV[np.arange(len(self._heard)), self._heard] += 0.97
        return np.log(rows_TV / rows_TV.sum(axis=1, keepdims=True))

    def blocks(self) -> Iterator[EmissionBlock]:
        logprobs_TV = self.logprobs()
        for first in range(0, len(logprobs_TV), 1500):
            yield EmissionBlock(first * POSITION_S, logprobs_TV[first : first + 1500])


def assert_near(span: SegmentSpan | None, truth: tuple[float, float], within_s: float = 0.2) -> None:
    assert span is not None
    assert (span.start_s, span.end_s) == pytest.approx(truth, abs=within_s)


@pytest.mark.medium
def test_segments_have_the_times_they_are_spoken_in() -> None:
    speaker = Speaker(mishearing=0.0)
    text = speaker.sentences(20)
    truth = [speaker.says(tokens) for tokens in text]
    spans = align_long(speaker.blocks(), text, BLANK, POSITION_S)
    for span, times in zip(spans, truth, strict=True):
        assert_near(span, times, within_s=0.09)  # the last symbol lasts as long as it likes
        assert span is not None and abs(span.start_s - times[0]) <= 0.03
        assert span.confidence > -0.2
    assert all(one.end_s <= next_one.start_s for one, next_one in pairwise(s for s in spans if s is not None))


@pytest.mark.medium
def test_what_is_misheard_is_found_and_less_sure() -> None:
    speaker = Speaker()
    text = speaker.sentences(20)
    truth = [speaker.says(tokens) for tokens in text]
    spans = align_long(speaker.blocks(), text, BLANK, POSITION_S)
    for span, times in zip(spans, truth, strict=True):
        assert_near(span, times, within_s=0.5)
    assert np.mean([span.confidence for span in spans if span is not None]) < -0.3


@pytest.mark.medium
def test_text_that_nobody_speaks_is_left_out() -> None:
    speaker = Speaker()
    text = speaker.sentences(30)
    unspoken = {0, *range(10, 16), 20, 29}
    truth = {number: speaker.says(tokens) for number, tokens in enumerate(text) if number not in unspoken}
    spans = align_long(speaker.blocks(), text, BLANK, POSITION_S)
    assert {number for number, span in enumerate(spans) if span is None} == unspoken
    for number, times in truth.items():
        assert_near(spans[number], times, within_s=0.5)


@pytest.mark.medium
def test_speech_without_text_is_nobodys() -> None:
    speaker = Speaker()
    text = speaker.sentences(20)
    truth = []
    for number, tokens in enumerate(text):
        for foreign in speaker.sentences(8) if number in (0, 7, 12) else []:
            speaker.says(foreign)
        truth.append(speaker.says(tokens))
    for foreign in speaker.sentences(5):
        speaker.says(foreign)
    for span, times in zip(align_long(speaker.blocks(), text, BLANK, POSITION_S), truth, strict=True):
        assert_near(span, times, within_s=0.5)


def test_half_a_sentence_that_is_spoken_is_less_sure_than_any_whole_one() -> None:
    speaker = Speaker(mishearing=0.02)
    text = speaker.sentences(10)
    for number, tokens in enumerate(text):
        speaker.says(tokens[:25] if number == 5 else tokens)
    spans = align_long(speaker.blocks(), text, BLANK, POSITION_S)
    surest = [-np.inf if span is None else span.confidence for span in spans]
    assert np.argmin(surest) == 5
    assert sorted(surest)[0] < sorted(surest)[1] - 0.5


@pytest.mark.medium
def test_anchors_change_nothing_but_the_time_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = Speaker()
    text = speaker.sentences(20)
    for number, tokens in enumerate(text):
        if number != 9:
            speaker.says(tokens)
    blocks = list(speaker.blocks())
    anchored = align_long(blocks, text, BLANK, POSITION_S)
    monkeypatch.setattr(long_alignment, "anchors", lambda heard, text: [])
    assert align_long(blocks, text, BLANK, POSITION_S) == anchored


def test_a_pause_that_has_no_emissions_is_in_the_times() -> None:
    logprobs_TV = np.full((3, SYMBOLS), -9.0, dtype=np.float32)
    logprobs_TV[range(3), [1, BLANK, 2]] = -0.01
    blocks = [EmissionBlock(10.0, logprobs_TV), EmissionBlock(60.0, logprobs_TV)]
    spans = align_long(blocks, [[1, 2], [], [1, 2]], BLANK, POSITION_S)
    assert spans[1] is None
    assert_near(spans[0], (10.0, 10.06), within_s=0.021)
    assert_near(spans[2], (60.0, 60.06), within_s=0.021)


def test_without_sound_or_text_nothing_is_spoken() -> None:
    assert align_long([], [[1], [2]], BLANK, POSITION_S) == [None, None]
    silence = EmissionBlock(0.0, np.log(np.full((4, SYMBOLS), 1 / SYMBOLS, dtype=np.float32)))
    assert align_long([silence], [], BLANK, POSITION_S) == []
    assert align_long([silence], [[], []], BLANK, POSITION_S) == [None, None]
    assert align_long([silence], [[1] * 50], BLANK, POSITION_S) == [None]  # longer than the sound


def test_symbols_that_there_are_not_and_blocks_out_of_order_are_errors() -> None:
    block = EmissionBlock(0.0, np.log(np.full((100, SYMBOLS), 1 / SYMBOLS, dtype=np.float32)))
    for token in (-1, SYMBOLS):
        with pytest.raises(ValueError, match="a token is none of 30 symbols"):
            align_long([block], [[1, token]], BLANK, POSITION_S)
    with pytest.raises(ValueError, match="a token is the blank"):
        align_long([block], [[1, BLANK]], BLANK, POSITION_S)
    with pytest.raises(ValueError, match="come after others until 2 s"):
        align_long([block, EmissionBlock(1.5, block.logprobs_TV)], [[1]], BLANK, POSITION_S)


def test_a_recording_that_is_not_understood_is_an_error_rather_than_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_alignment, "MAX_CELLS", 100_000)
    speaker, other = Speaker(seed=1), Speaker(seed=2)
    for tokens in other.sentences(20):
        speaker.says(tokens)
    with pytest.raises(ValueError, match="too little of the recording is understood"):
        align_long(speaker.blocks(), speaker.sentences(20), BLANK, POSITION_S)


@pytest.mark.medium
def test_a_long_recording_is_searched_a_band_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of five minutes has over 50 million cells; what is searched grows as the time does."""
    speaker = Speaker()
    text = speaker.sentences(105)
    truth = {n: speaker.says(tokens) for n, tokens in enumerate(text) if not 50 <= n < 55}
    blocks = list(speaker.blocks())
    positions = sum(len(block.logprobs_TV) for block in blocks)
    assert positions * len(text) * 40 > 50_000_000
    monkeypatch.setattr(long_alignment, "MAX_CELLS", positions * 250)
    spans = align_long(blocks, text, BLANK, POSITION_S)
    for number, times in truth.items():
        assert_near(spans[number], times, within_s=1.0)
    assert spans[50:55] == [None] * 5
