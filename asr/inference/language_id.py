"""Finds the language of a recording: the one that most of its first windows are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from asr.inference.recording import Window
from asr.transcript import Transcript

# Windows whose languages decide for the recording: one alone may be a greeting, a name or a song.
LANGUAGE_VOTE_WINDOWS = 3


class LanguageVote:
    """The language that a recording's windows are decoded in: the requested one, or that of most of its first windows.

    While it is open (``settled`` is False) windows are decoded with ``language`` None, ``at_once`` of them, and then
    ``count`` says which of them must be decoded again. With ``per_window`` each window keeps its own language.
    """

    def __init__(self, language: str | None, per_window: bool = False) -> None:
        self._per_window = per_window
        self.language = language
        self.settled = per_window or language is not None

    def at_once(self, otherwise: int) -> int:
        """Return how many windows to decode next: those that vote, or ``otherwise``."""
        return otherwise if self.settled else LANGUAGE_VOTE_WINDOWS

    def count(self, windows: Sequence[Window], transcripts: Sequence[Transcript]) -> list[int]:
        """Let windows vote where it is still open; return the indices of those in another language than decided.

        A window with text votes with its length. If no window has text, the vote remains open.
        """
        if not self.settled:
            samples: Counter[str | None] = Counter()
            for window, transcript in zip(windows, transcripts, strict=True):
                if transcript.text:
                    samples[transcript.language] += window.end - window.start
            if samples:
                self.language, self.settled = samples.most_common(1)[0][0], True
        if self._per_window or not self.settled:
            return []
        return [i for i, transcript in enumerate(transcripts) if transcript.language != self.language]


def vote(
    language: str | None, per_window: bool, windows: Sequence[Window], transcripts: Sequence[Transcript]
) -> tuple[str | None, frozenset[int]]:
    """Return the language of a recording whose windows were decoded separately, and the windows in another one.

    The result is the same as when windows are decoded one after the other: the first of them decide.
    """
    voting = LanguageVote(language, per_window)
    wrong: list[int] = []
    at = 0
    while at < len(transcripts):
        end = at + voting.at_once(len(transcripts))
        wrong += [at + i for i in voting.count(windows[at:end], transcripts[at:end])]
        at = min(end, len(transcripts))
    return voting.language, frozenset(wrong)
