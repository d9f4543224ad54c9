"""A whole recording heard: the transcripts of its windows put together, with times from its true beginning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from asr.audio import SAMPLE_RATE
from asr.clip import Spoken, Transcript, Word
from asr.language import UNSPACED


@dataclass(frozen=True)
class Window:
    """A stretch of a recording that is decoded at once: 16 kHz samples, ``end`` exclusive, at most 480,000."""

    start: int
    end: int

    @property
    def start_s(self) -> float:
        return self.start / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        return self.end / SAMPLE_RATE


@dataclass(frozen=True)
class RecordedSegment:
    """A segment with its place in the recording; the figures are those of the window it was heard in.

    ``text`` is without space around it; ``space`` stands between the segment before and this one. ``window_start_s``
    is where its window begins.
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


@dataclass(frozen=True)
class Recording:
    """All that was heard. ``language`` is the one of most tokens, None where nothing tells it."""

    duration_s: float
    language: str | None
    segments: tuple[RecordedSegment, ...]
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return "".join(segment.space + segment.text for segment in self.segments)


@dataclass(frozen=True)
class Part:
    """What one window adds to a recording. The ``delta`` of all parts, one after the other, is the recording's text."""

    segments: tuple[RecordedSegment, ...]
    words: tuple[Word, ...]

    @property
    def delta(self) -> str:
        return "".join(segment.space + segment.text for segment in self.segments)


class Joiner:
    """Puts a recording together window by window, for those who want to see it grow."""

    def __init__(self) -> None:
        self._segments: list[RecordedSegment] = []
        self._words: list[Word] = []
        self._tokens: Counter[str | None] = Counter()
        self._end = 0

    def add(self, window: Window, transcript: Transcript) -> Part:
        """Take the next window and return what it adds. Raises ValueError for one that begins before the last ended."""
        if window.start < self._end:
            raise ValueError(f"a window from sample {window.start} after one until {self._end}")
        self._end = window.end
        if not transcript.text.strip():
            return Part((), ())
        self._tokens[transcript.language] += len(transcript.tokens)
        segments = self._placed_segments(window, transcript)
        words = _placed_words(window, transcript.words)
        self._segments += segments
        self._words += words
        return Part(tuple(segments), tuple(words))

    def recording(self, duration_s: float, language: str | None = None) -> Recording:
        """Return the recording of the windows so far. ``language`` is the one to name where no window tells it."""
        heard = self._tokens.most_common(1)[0][0] if self._tokens else None
        return Recording(duration_s, heard or language, tuple(self._segments), tuple(self._words))

    def _placed_segments(self, window: Window, transcript: Transcript) -> list[RecordedSegment]:
        placed: list[RecordedSegment] = []
        clock = _Clock(window)
        for spoken in _spoken(window, transcript):
            start_s, end_s = clock.place(spoken.start_s, spoken.end_s)
            text = spoken.text.strip()
            if text:
                before = (placed or self._segments)[-1:]
                segment = RecordedSegment(
                    id=len(self._segments) + len(placed),
                    start_s=start_s,
                    end_s=end_s,
                    text=text,
                    space=_space(before[0].language, transcript.language) if before else "",
                    tokens=spoken.tokens,
                    language=transcript.language,
                    window_start_s=window.start_s,
                    avg_logprob=transcript.avg_logprob,
                    no_speech_prob=transcript.no_speech_prob,
                    compression_ratio=transcript.compression_ratio,
                    temperature=transcript.temperature,
                )
                placed.append(segment)
        return placed


def join(
    windows: Sequence[Window], transcripts: Sequence[Transcript], duration_s: float, language: str | None = None
) -> Recording:
    """Return the recording that these windows, in order, and their transcripts make. Raises as ``Joiner.add``."""
    joiner = Joiner()
    for window, transcript in zip(windows, transcripts, strict=True):
        joiner.add(window, transcript)
    return joiner.recording(duration_s, language)


class _Clock:
    """Turns a window's times into the recording's: within the window, and never back.

    A decoder may say 30 s in a window of 4 s, or begin a segment before the last one ended; a player cannot show that.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._now_s = window.start_s

    def place(self, start_s: float, end_s: float) -> tuple[float, float]:
        start_s = min(max(self._window.start_s + start_s, self._now_s), self._window.end_s)
        self._now_s = min(max(self._window.start_s + end_s, start_s), self._window.end_s)
        return start_s, self._now_s


def _spoken(window: Window, transcript: Transcript) -> Sequence[Spoken]:
    """Return the segments of a transcript; the text as one where an engine gives none."""
    whole = Spoken(0.0, window.end_s - window.start_s, transcript.text, transcript.tokens)
    return transcript.segments or (whole,)


def _placed_words(window: Window, words: Sequence[Word]) -> list[Word]:
    clock = _Clock(window)
    placed = []
    for word in words:
        start_s, end_s = clock.place(word.start_s, word.end_s)
        placed.append(replace(word, start_s=start_s, end_s=end_s))
    return placed


def _space(before: str | None, after: str | None) -> str:
    """Return what stands between a segment in the language ``before`` and one in ``after``."""
    return "" if before in UNSPACED and after in UNSPACED else " "
