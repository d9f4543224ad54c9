"""A run over many recordings, which a later one goes on with: what is in the folder already is not done again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from asr.errors import DataError
from asr.places import absolute, settled
from cluster.session import ray_session
from serve.batch.assembler import Assembler, Outcome
from serve.batch.decode_actor import MakeEngine
from serve.batch.inputs import Input, find
from serve.batch.job import BatchJob
from serve.batch.lock import alone
from serve.batch.output_folder import Folder
from serve.batch.pipeline import Workforce, describe, transcribe
from serve.batch.progress import Done
from serve.batch.window_task import RecordingTask, WindowTask
from serve.replica.engine_loader import load_engine


@dataclass(frozen=True)
class Summary:
    """Summary of a run: counts of recordings, the audio of those transcribed and the time it took, in seconds.

    ``files`` are all recordings: those transcribed, those that failed and those skipped, whose transcripts were there.
    ``warned`` of those transcribed have something about their sound in the table of failures. ``not_audio`` counts the
    files that were none, by suffix. ``notes`` are lines about names in the folder that are not those of the recordings,
    and about what is not among them.
    """

    files: int
    transcribed: int
    skipped: int
    failed: int
    warned: int
    audio_s: float
    seconds: float
    notes: Sequence[str]
    not_audio: Mapping[str, int]
    repeated: int
    computed: str
    """Description of how the model is run; "" if there was nothing to do."""


def transcribe_all(
    job: BatchJob,
    address: str | None = None,
    on_progress: Callable[[Done], None] = lambda done: None,
    make_engine: MakeEngine = load_engine,
) -> Summary:
    """Write the transcripts of a job that are not there yet, and a table of what failed or is to be known.

    ``address`` is a Ray cluster's as in ``cluster.session``. Raises UserError where the job cannot be done as asked, or
    another run writes into the folder.
    """
    with alone(job.out):
        return _transcribed(job, address, on_progress, make_engine)


def _transcribed(
    job: BatchJob, address: str | None, on_progress: Callable[[Done], None], make_engine: MakeEngine
) -> Summary:
    found = find(job.inputs, job.audio_roots)
    inputs = found.inputs
    job.check()  # before transcripts are removed for --overwrite
    folder = Folder(job.out, job.settings(), job.formats)
    notes = folder.open(inputs, job.overwrite)
    todo = [one for one in inputs if not folder.is_done(one)]
    tally = _Tally(todo)
    failures: list[tuple[Input, DataError]] = []
    warned = 0
    try:
        if todo:
            with ray_session(address):
                on_progress(tally.done())
                for number, outcome in _outcomes(job, todo, _is_shared(address), make_engine, tally, on_progress):
                    if isinstance(outcome, DataError):
                        failures.append((todo[number], outcome))
                    else:
                        warned += folder.write(todo[number], outcome)
                    tally.end(failed=isinstance(outcome, DataError))
                    on_progress(tally.done())
    finally:  # also when it is interrupted
        folder.write_failures(failures)
    done = tally.done()
    return Summary(
        files=len(inputs),
        transcribed=len(todo) - len(failures),
        skipped=len(inputs) - len(todo),
        failed=len(failures),
        warned=warned,
        audio_s=done.audio_s,
        seconds=done.seconds,
        notes=[*notes, *filter(None, [str(found)])],
        not_audio=found.not_audio,
        repeated=found.repeated,
        computed=tally.computed,
    )


def _outcomes(
    job: BatchJob,
    inputs: Sequence[Input],
    shared: bool,
    make_engine: MakeEngine,
    tally: _Tally,
    on_progress: Callable[[Done], None],
) -> Iterator[tuple[int, Outcome]]:
    workforce = Workforce.of_cluster(shared)
    workforce.require()
    config = settled(job.config)  # from here on it is read in other folders
    model = describe(config, make_engine, workforce)
    options = job.options(model)
    tasks = [
        RecordingTask(number, absolute(one.address), options, sound=job.sound) for number, one in enumerate(inputs)
    ]
    gathering = Assembler(tasks)
    tally.begin(model.computed)
    while tasks:
        sized = [(task, inputs[task.number].bytes) for task in tasks]
        for window_task in transcribe(sized, model, config, make_engine, workforce):
            outcome = gathering.add(window_task)
            tally.add(window_task, again=tasks[0].positions is not None)
            if outcome is not None:
                yield window_task.number, outcome
            else:
                on_progress(tally.done())
        tasks = gathering.again() if tasks[0].positions is None else []
    yield from gathering.rest()


class _Tally:
    """Counts what a run has done. The clock starts with the work, when the model is known."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._bytes = [max(one.bytes, 1) for one in inputs]
        self._done_bytes = self._audio_s = 0.0
        self._files = self._failed = 0
        self._begun: float | None = None
        self.computed = ""

    def begin(self, computed: str) -> None:
        self.computed = computed
        self._begun = time.monotonic()

    def add(self, window_task: WindowTask, again: bool) -> None:
        """Count a window, with its part of the silence around; of what is decoded again, nothing."""
        if not again:
            windows = max(window_task.of, 1)
            self._done_bytes += self._bytes[window_task.number] / windows
            self._audio_s += window_task.duration_s * window_task.report.decoded_channels / windows

    def end(self, failed: bool) -> None:
        self._files += 1
        self._failed += failed

    def done(self) -> Done:
        return Done(
            files=self._files,
            of=len(self._bytes),
            failed=self._failed,
            audio_s=self._audio_s,
            seconds=time.monotonic() - self._begun if self._begun else 0.0,
            share=min(self._done_bytes / max(sum(self._bytes), 1), 1.0),
        )


def _is_shared(address: str | None) -> bool:
    return bool(address or os.environ.get("RAY_ADDRESS"))
