"""Assembles recordings from windows as they come back, until each recording is whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from asr.errors import DataError
from asr.inference.language_id import vote
from asr.inference.pipeline import joined
from asr.inference.recording import Recording, WindowTranscript
from asr.transcript import Transcript
from serve.batch.window_task import RecordingTask, WindowTask

Outcome = Recording | DataError


@dataclass
class _Growing:
    """A recording that is not whole: the transcript at each position, which are awaited (None: unknown as yet)."""

    task: RecordingTask
    transcripts: dict[int, WindowTranscript] = field(default_factory=dict)
    awaited: set[int] | None = None
    again: RecordingTask | None = None


class Assembler:
    """Holds the transcripts of recordings that are not whole yet: text, no audio.

    Where the language of a recording is to be detected, its windows come with a language each. They are kept where
    that is the recording's, which its first windows decide as in the endpoint; the others are to be decoded ``again``.
    """

    def __init__(self, tasks: Iterable[RecordingTask]) -> None:
        self._growing = {task.number: _Growing(task) for task in tasks}

    def add(self, window_task: WindowTask) -> Outcome | None:
        """Take a window's result and return its recording where that is whole now, or why it never will be."""
        growing = self._growing.get(window_task.number)
        if growing is None:  # of a recording that failed
            return None
        if isinstance(window_task.content, DataError):
            return self._ended(growing, window_task.content)
        if growing.awaited is None or not window_task.of:
            growing.awaited = set(range(window_task.of))
        if isinstance(window_task.content, Transcript):
            growing.transcripts[window_task.position] = window_task.window, window_task.content
            growing.awaited.discard(window_task.position)
        return None if growing.awaited else self._whole(growing, window_task)

    def again(self) -> list[RecordingTask]:
        """Return what is to be decoded again, of recordings of which every window was decoded."""
        return [growing.again for growing in self._growing.values() if growing.again and growing.awaited]

    def rest(self) -> list[tuple[int, DataError]]:
        """Return the recordings that never became whole although nothing more will come."""
        lost = DataError("changed", "the file was another one when it was read for the second time")
        return [(number, lost) for number in self._growing]

    def _whole(self, growing: _Growing, last: WindowTask) -> Outcome | None:
        options = growing.task.options
        transcripts = [growing.transcripts[i] for i in sorted(growing.transcripts)]
        if growing.again is None:
            windows, said = [window for window, _ in transcripts], [transcript for _, transcript in transcripts]
            language, wrong = vote(options.language, options.language_per_window, windows, said)
            if wrong:
                growing.again = replace(growing.task, options=replace(options, language=language), positions=wrong)
                growing.awaited = set(wrong)
                return None
        return self._ended(growing, joined(transcripts, options, last.duration_s, last.report))

    def _ended(self, growing: _Growing, outcome: Outcome) -> Outcome:
        del self._growing[growing.task.number]
        return outcome
