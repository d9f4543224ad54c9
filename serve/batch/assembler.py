"""The windows of recordings as they come back, each put in its place until a recording is whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from asr.errors import DataError
from asr.inference.pipeline import LANGUAGE_VOTE_WINDOWS, DecodingOptions, LanguageVote, joined
from asr.inference.recording import Recording, Window
from asr.transcript import Transcript
from serve.batch.window_task import RecordingTask, WindowTask

Outcome = Recording | DataError
WindowTranscript = tuple[Window, Transcript]


@dataclass
class _Growing:
    """A recording that is not whole: what was heard at which position, which are awaited (None: unknown as yet)."""

    order: RecordingTask
    transcripts: dict[int, WindowTranscript] = field(default_factory=dict)
    awaited: set[int] | None = None
    again: RecordingTask | None = None


class Gathering:
    """Holds what was heard in recordings that are not whole yet: text, no audio.

    Where the language of a recording is to be detected, its windows come with a language each. They are kept where
    that is the recording's, which its first windows decide as in the endpoint; the others are to be heard ``again``.
    """

    def __init__(self, orders: Iterable[RecordingTask]) -> None:
        self._growing = {order.number: _Growing(order) for order in orders}

    def add(self, passage: WindowTask) -> Outcome | None:
        """Take a passage and return its recording where that is whole now, or why it never will be."""
        growing = self._growing.get(passage.number)
        if growing is None:  # of a recording that failed
            return None
        if isinstance(passage.content, DataError):
            return self._ended(growing, passage.content)
        if growing.awaited is None or not passage.of:
            growing.awaited = set(range(passage.of))
        if isinstance(passage.content, Transcript):
            growing.transcripts[passage.position] = passage.window, passage.content
            growing.awaited.discard(passage.position)
        return None if growing.awaited else self._whole(growing, passage)

    def again(self) -> list[RecordingTask]:
        """Return what is to be heard again, of recordings of which every window was heard."""
        return [growing.again for growing in self._growing.values() if growing.again and growing.awaited]

    def rest(self) -> list[tuple[int, DataError]]:
        """Return the recordings that never became whole although nothing more will come."""
        lost = DataError("changed", "the file was another one when it was read for the second time")
        return [(number, lost) for number in self._growing]

    def _whole(self, growing: _Growing, last: WindowTask) -> Outcome | None:
        options = growing.order.options
        transcripts = [growing.transcripts[i] for i in sorted(growing.transcripts)]
        if growing.again is None:
            language, wrong = settle(options, transcripts)
            if wrong:
                growing.again = replace(growing.order, options=replace(options, language=language), positions=wrong)
                growing.awaited = set(wrong)
                return None
        return self._ended(growing, joined(transcripts, options, last.duration_s, last.report))

    def _ended(self, growing: _Growing, outcome: Outcome) -> Outcome:
        del self._growing[growing.order.number]
        return outcome


def settle(options: DecodingOptions, transcripts: Sequence[WindowTranscript]) -> tuple[str | None, frozenset[int]]:
    """Return the language of a recording whose windows were heard each on its own, and which of them it is not that of.

    The endpoint comes to the same: it hears the first windows like this, and the others in the language then known.
    """
    language = LanguageVote(options)
    wrong, position = list[int](), 0
    while position < len(transcripts):
        group = transcripts[position:] if language.settled else transcripts[position : position + LANGUAGE_VOTE_WINDOWS]
        if not language.settled:
            language.settle([window for window, _ in group], [transcript for _, transcript in group])
        wrong += [position + i for i, (_, transcript) in enumerate(group) if not language.is_right(transcript)]
        position += len(group)
    return language.language, frozenset(wrong)
