"""Joins the transcripts of a recording's windows into one, with times from its true beginning."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from asr.audio.decode import SAMPLE_RATE
from asr.language import UNSPACED
from asr.sound import SoundReport
from asr.transcript import Segment, Transcript, Word


@dataclass(frozen=True)
class Window:
    """A stretch of a recording that is decoded at once: 16 kHz samples, ``end`` exclusive, at most 480,000.

    ``channel`` counts from 0 where each channel is transcribed on its own; None where the recording is one track.
    """

    start: int
    end: int
    channel: int | None = None

    @property
    def start_s(self) -> float:
        return self.start / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        return self.end / SAMPLE_RATE


WindowTranscript = tuple[Window, Transcript]


@dataclass(frozen=True)
class RecordedSegment:
    """A segment with its times in the recording; the figures are those of the window it was decoded in.

    ``text`` has no space around it; ``space`` is the one between the segment before and this one. ``window_start_s``
    is the beginning of its window.
    """

    id: int
    start_s: float
    end_s: float
    text: str
    space: str
    tokens: tuple[int, ...]
    language: str | None
    window_start_s: float
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float
    channel: int | None = None


@dataclass(frozen=True)
class RecordedWord(Word):
    """A word with its times in the recording."""

    channel: int | None = None


_Placed = TypeVar("_Placed", RecordedSegment, RecordedWord)


@dataclass(frozen=True)
class Recording:
    """Transcript of a recording. ``language`` is the one of most tokens, None where nothing tells it.

    ``sound`` is the report of decoding the file, if it belongs in the answer.
    """

    duration_s: float
    language: str | None
    segments: tuple[RecordedSegment, ...]
    words: tuple[RecordedWord, ...]
    sound: SoundReport | None = None

    @property
    def text(self) -> str:
        return "".join(segment.space + segment.text for segment in self.segments)

    @property
    def decoded_s(self) -> float:
        """Seconds of audio that were transcribed: of each channel, where each was transcribed on its own."""
        return self.duration_s * (self.sound.decoded_channels if self.sound else 1)


@dataclass(frozen=True)
class RecordingPart:
    """The part of a recording from one window. The ``delta`` of all parts, in order, make the recording's text.

    ``until_s`` is the time up to which the recording is known now.
    """

    segments: tuple[RecordedSegment, ...]
    words: tuple[RecordedWord, ...]
    until_s: float

    @property
    def delta(self) -> str:
        return "".join(segment.space + segment.text for segment in self.segments)


class Joiner:
    """Joins a recording window by window, so that its text can be shown as it grows.

    Where each channel is transcribed on its own, windows of several channels lie side by side. Text of one channel is
    held back until no other channel can have text before it: parts are in order of time, and none is ever taken back.
    """

    def __init__(self) -> None:
        self._segments: list[RecordedSegment] = []
        self._words: list[RecordedWord] = []
        self._waiting_segments: list[RecordedSegment] = []  # of one channel, until the others are as far
        self._waiting_words: list[RecordedWord] = []
        self._tokens: Counter[str | None] = Counter()
        self._start = 0
        self._ends: dict[int | None, int] = {}

    def add(self, window: Window, transcript: Transcript) -> RecordingPart:
        """Take the next window and return the part that is known now.

        Raises ValueError for a window that begins before the last one ended, or the last one of another channel began.
        """
        end = self._ends.get(window.channel, 0)
        if window.start < max(end, self._start):
            raise ValueError(f"a window from sample {window.start} after one until {max(end, self._start)}")
        self._start, self._ends[window.channel] = window.start, window.end
        segments: list[RecordedSegment] = []
        words: list[RecordedWord] = []
        if transcript.text.strip():
            self._tokens[transcript.language] += len(transcript.tokens)
            segments, words = _placed_segments(window, transcript), _placed_words(window, transcript.words)
        if window.channel is None:
            return self._taken(segments, words, window.end_s)
        part = self._taken(*self._waiting(window.start_s), window.start_s)
        self._waiting_segments += segments
        self._waiting_words += words
        return part

    def rest(self, duration_s: float) -> RecordingPart:
        """Return the items held back, when no window is left."""
        return self._taken(*self._waiting(math.inf), duration_s)

    def recording(self, duration_s: float, language: str | None = None, sound: SoundReport | None = None) -> Recording:
        """Return the recording as the parts so far tell it: whole, after ``rest``.

        ``language`` is the one to name if no window tells it.
        """
        likeliest = self._tokens.most_common(1)[0][0] if self._tokens else None
        return Recording(duration_s, likeliest or language, tuple(self._segments), tuple(self._words), sound)

    def _waiting(self, before_s: float) -> tuple[list[RecordedSegment], list[RecordedWord]]:
        """Return the waiting items that begin before that time; the rest goes on waiting."""
        segments, self._waiting_segments = _parted(self._waiting_segments, before_s)
        words, self._waiting_words = _parted(self._waiting_words, before_s)
        return segments, words

    def _taken(self, segments: list[RecordedSegment], words: list[RecordedWord], until_s: float) -> RecordingPart:
        """Number segments, and put the space before each that the one before it asks for."""
        first = len(self._segments)
        for segment in segments:
            space = _space(self._segments[-1].language, segment.language) if self._segments else ""
            self._segments.append(replace(segment, id=len(self._segments), space=space))
        self._words += words
        return RecordingPart(tuple(self._segments[first:]), tuple(words), until_s)


def join(
    windows: Sequence[Window], transcripts: Sequence[Transcript], duration_s: float, language: str | None = None
) -> Recording:
    """Return the recording that these windows, in order, and their transcripts make. Raises as ``Joiner.add``."""
    joiner = Joiner()
    for window, transcript in zip(windows, transcripts, strict=True):
        joiner.add(window, transcript)
    joiner.rest(duration_s)
    return joiner.recording(duration_s, language)


class _Clock:
    """Turns a window's times into the recording's: within the window, and never back.

    A decoder may give 30 s in a window of 4 s, or begin a segment before the last one ended; a player cannot show that.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._now_s = window.start_s

    def place(self, start_s: float, end_s: float) -> tuple[float, float]:
        start_s = min(max(self._window.start_s + start_s, self._now_s), self._window.end_s)
        self._now_s = min(max(self._window.start_s + end_s, start_s), self._window.end_s)
        return start_s, self._now_s


def _spoken(window: Window, transcript: Transcript) -> Sequence[Segment]:
    """Return the segments of a transcript; the text as one where an engine gives none."""
    whole = Segment(0.0, window.end_s - window.start_s, transcript.text, transcript.tokens)
    return transcript.segments or (whole,)


def _placed_segments(window: Window, transcript: Transcript) -> list[RecordedSegment]:
    """Return the segments of a window in which there is text; ``id`` and ``space`` are the joiner's to give."""
    placed = []
    clock = _Clock(window)
    for spoken in _spoken(window, transcript):
        start_s, end_s = clock.place(spoken.start_s, spoken.end_s)
        text = spoken.text.strip()
        if text:
            segment = RecordedSegment(
                id=0,
                start_s=start_s,
                end_s=end_s,
                text=text,
                space="",
                tokens=spoken.tokens,
                language=transcript.language,
                window_start_s=window.start_s,
                avg_logprob=transcript.avg_logprob,
                no_speech_prob=transcript.no_speech_prob,
                compression_ratio=transcript.compression_ratio,
                temperature=transcript.temperature,
                channel=window.channel,
            )
            placed.append(segment)
    return placed


def _placed_words(window: Window, words: Sequence[Word]) -> list[RecordedWord]:
    clock = _Clock(window)
    placed = []
    for word in words:
        start_s, end_s = clock.place(word.start_s, word.end_s)
        placed.append(RecordedWord(start_s, end_s, word.text, word.probability, window.channel))
    return placed


def _parted(waiting: list[_Placed], before_s: float) -> tuple[list[_Placed], list[_Placed]]:
    """Return, in order of time, the items that begin before that time, and the rest."""
    # The sort keeps what is equal in its order, so that words of one channel that begin together stay as they are.
    waiting = sorted(waiting, key=lambda one: (one.start_s, one.channel or 0))
    count = sum(one.start_s < before_s for one in waiting)
    return waiting[:count], waiting[count:]


def _space(before: str | None, after: str | None) -> str:
    """Return the separator between a segment in the language ``before`` and one in ``after``."""
    return "" if before in UNSPACED and after in UNSPACED else " "
