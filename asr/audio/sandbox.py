"""Sandbox: each calling thread has a confined child that parses strangers' files. If it dies, only its file fails.

A fault of a codec costs only its own file: DataError ``decoder_died``, and another child. The child has nothing of this
process but a socket, recordings and memory for samples (``asr.io.confinement``): files and storages are read here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from asr.audio.limits import DEFAULT_LIMITS, AudioLimits
from asr.audio.probe import Header, Length
from asr.audio.sandbox_answers import DIED, answers_of, found, header_of, length_of, report_of
from asr.audio.sandbox_speech import speech_of
from asr.audio.sandbox_task import Handed, Source, Task, Wait, Watch, task_of
from asr.audio.shared_samples import Decoded, brief, copied, memory, taken
from asr.errors import DataError
from asr.io.confined_process import NONSENSE, Ended, Forker, Worker
from asr.io.confinement import MAX_OPEN_FILES
from asr.parsed import JsonObject
from asr.sound import DEFAULT_CHOICE, SoundChoice
from asr.utterance import Utterance

STALL_S = 20.0  # without a sample, for what takes milliseconds; the buffer between holds 16 s of audio
FILE_STALL_S = 120.0  # the same of what lies on a disk, which may be that of another machine
MEMORY_BYTES = 1 << 30  # on top of the interpreter's; neither a recording nor its samples are in it
MOST_TASKS = 64  # that are asked for in one go
WHOLE = (0.0, None)  # from a recording's beginning to its end
SHORT_S = 60.0  # longer clips are decoded one by one

_SPARE_BYTES = 4 << 20  # of samples over the limit, until that is noticed
_NONSENSE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
assert MOST_TASKS + 8 < MAX_OPEN_FILES

Kind = TypeVar("Kind")
Result = NDArray[np.float32] | Header | Length | None


class NoFault(DataError):
    """The child has ended, and not by the file: another one may decode it."""


class Child:
    """Child process that parses strangers' files, one at a time, each in a process that has parsed no other one.

    ``module`` runs in them, ``memory_bytes`` is what each may take beyond what it begins with, ``stall_s`` how long it
    may bring nothing. They end with the thread that made it, or with ``close``.
    """

    def __init__(
        self, module: str = "asr.audio.sandbox_child", memory_bytes: int = MEMORY_BYTES, stall_s: float = STALL_S
    ) -> None:
        self._stall_s = stall_s
        self._forker = Forker(module, memory_bytes)
        self.close = self._forker.close

    @property
    def forker(self) -> int:
        """The id of the process that the others come from."""
        return self._forker.pid

    @property
    def pid(self) -> int:
        """The id of the process that does what is asked now, or next."""
        return self._forker.worker().pid

    @property
    def alive(self) -> bool:
        """Return whether the child can take a task."""
        return self._forker.alive

    def decode(
        self,
        source: Source,
        limits: AudioLimits,
        choice: SoundChoice = DEFAULT_CHOICE,
        watch: Watch | None = None,
        between_s: tuple[float, float | None] = WHOLE,
        speech: bool = False,
    ) -> Decoded:
        """Decode the chosen track and channel of a recording within ``limits``; ``watch`` gets the progress.

        ``between_s`` are start and end of the stretch that is decoded, None: its end. ``speech``: find it as well.
        Raises DataError as ``asr.audio.decode.decode``, or decoder_died, for a bug of ours too; and ``watch``'s Stop.
        """
        task = Task(source, "decode", limits, choice, *between_s, sparse=True, speech=speech)
        with Handed([task]) as handed, memory() as file:
            handed.require()
            [answer] = self._ask(handed, file, watch, shared=True)
            with _believed(place := handed.files[0].place):
                report = report_of(found(answer, place))
                return taken(file, report, place, speech_of(answer, report.samples))

    def each(self, tasks: Sequence[Task]) -> list[Result | DataError]:
        """Do at most MOST_TASKS tasks in one go. A DataError as ``decode`` raises it stands in place of a result.

        Raises DataError decoder_died, of one of the tasks.
        """
        with Handed(tasks) as handed:
            if not handed.files:
                return handed.merged([])
            with memory() as file:
                answers = self._ask(handed, file)
                with _believed(handed.files[0].place):
                    return handed.merged(_results(handed, file, answers))

    def _ask(self, handed: Handed, samples: int, watch: Watch | None = None, shared: bool = False) -> list[JsonObject]:
        """Have all that is handed over done, with samples written to a descriptor, by a worker that ends with it.

        ``shared``: what it wrote is not copied if it is long: it must be gone before a sample is looked at.
        """
        place = handed.files[0].place
        try:
            worker = self._forker.worker()
            try:
                answers = self._answers(worker, handed, samples, watch)
                gone = shared and not brief(samples)
            except TimeoutError:
                self._forker.over()
                how = "took too long"
            except (OSError, EOFError, *_NONSENSE):
                how = self._forker.how()
            except BaseException:
                self._forker.over()
                raise
            else:
                self._forker.over(gone)
                return answers
        except Ended as error:
            raise NoFault(DIED, f"{place}: {error}") from None
        raise DataError(DIED, f"{place}: decoding {how}")

    def _answers(self, worker: Worker, handed: Handed, samples: int, watch: Watch | None) -> list[JsonObject]:
        if worker.allowance is not None:
            cpu_s = self._stall_s + max(task.longest_s for task in handed.tasks)
            worker.allowance.renew(cpu_s, sum(task.most_bytes for task in handed.tasks) + _SPARE_BYTES)
        worker.socket.settimeout(self._stall_s)
        handed.send(worker.socket, samples)
        # Of many, one that stalls is to be found soon: it is done again alone.
        waits_for_disk = handed.on_disk and len(handed.tasks) == 1
        wait = Wait(samples, handed.tasks, FILE_STALL_S if waits_for_disk else self._stall_s, watch)
        while "read" in (answer := wait.frame(worker.socket)):
            wait.go_on(handed.answer(worker.socket, answer["read"]))
        return answers_of(answer, len(handed.tasks))


@contextmanager
def _believed(place: str) -> Iterator[None]:
    """Make a fault of the file of what is no answer."""
    try:
        yield
    except _NONSENSE:
        raise DataError(DIED, f"{place}: decoding {NONSENSE}") from None


def _results(handed: Handed, file: int, answers: Sequence[JsonObject]) -> list[Result | DataError]:
    results: list[Result | DataError] = []
    offset = 0
    for task, opened, answer in zip(handed.tasks, handed.files, answers, strict=True):
        try:
            said = found(answer, opened.place)
            if task.call == "decode":
                samples = report_of(said).samples
                offset += samples
                results.append(copied(file, offset - samples, samples, opened.place))
            else:
                results.append(header_of(said) if task.call == "header" else length_of(said))
        except DataError as error:
            results.append(error)
    return results


_own = threading.local()


def own() -> Child:
    """Return the child of this thread, a new one where it died or never was."""
    child: Child | None = getattr(_own, "child", None)
    if child is None or not child.alive:
        child = _own.child = Child()
    return child


def _in_own(do: Callable[[Child], Kind]) -> Kind:
    try:
        return do(own())
    except NoFault:
        return do(own())


def decode(
    source: Source,
    limits: AudioLimits,
    choice: SoundChoice = DEFAULT_CHOICE,
    watch: Watch | None = None,
    between_s: tuple[float, float | None] = WHOLE,
    speech: bool = False,
) -> Decoded:
    """Decode a recording in the child of this thread, as ``Child.decode``; the first call starts one."""
    return _in_own(lambda child: child.decode(source, limits, choice, watch, between_s, speech))


def each(tasks: Sequence[Task]) -> list[Result | DataError]:
    """Do any number of tasks in the child of this thread as ``Child.each`` does; one that kills it costs no other."""
    if len(tasks) > MOST_TASKS:
        return each(tasks[:MOST_TASKS]) + each(tasks[MOST_TASKS:])
    try:
        return _in_own(lambda child: child.each(tasks))
    except DataError as died:
        return [died] if len(tasks) == 1 else [result for task in tasks for result in each([task])]


def waveform(
    source: Source,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: AudioLimits = DEFAULT_LIMITS,
    choice: SoundChoice = DEFAULT_CHOICE,
) -> NDArray[np.float32]:
    """Return what ``asr.audio.decode.decode`` does, decoded in the child of this thread.

    Raises DataError as it does, or with the reason decoder_died.
    """
    return cast(NDArray[np.float32], _only(Task(source, "decode", limits, choice, start_s, end_s)))


def decode_utterance(utterance: Utterance, limits: AudioLimits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """Return the waveform [samples] of an utterance: its stretch of its file's audio. Raises as ``waveform``."""
    return cast(NDArray[np.float32], _only(task_of(utterance, limits)))


def decode_utterances(
    utterances: Sequence[Utterance], limits: AudioLimits
) -> Iterator[NDArray[np.float32] | DataError]:
    """Yield the waveforms of utterances, decoded in one go; a DataError in place of one that cannot be had."""
    return cast(
        "Iterator[NDArray[np.float32] | DataError]", _in_turn([task_of(utterance, limits) for utterance in utterances])
    )


def with_headers(
    utterances: Sequence[Utterance], limits: AudioLimits
) -> Iterator[tuple[Header, NDArray[np.float32]] | DataError]:
    """Yield the headers of the utterances' files, with what ``decode_utterances`` yields, in one go."""
    tasks = [task for each in utterances for task in (_task("header", each), task_of(each, limits))]
    results = _in_turn(tasks)
    for head, sound in zip(results, results, strict=True):
        found = cast("tuple[Header, NDArray[np.float32]]", (head, sound))
        yield next((result for result in (head, sound) if isinstance(result, DataError)), found)


def headers(utterances: Sequence[Utterance]) -> list[Header | DataError]:
    """Return what ``asr.audio.probe.header`` does of all utterances' files; a DataError in place of a fault."""
    return cast("list[Header | DataError]", each([_task("header", utterance) for utterance in utterances]))


def probes(utterances: Sequence[Utterance]) -> list[Length | DataError | None]:
    """Return what ``asr.audio.probe.probe`` does of all utterances' files; a DataError in place of a fault."""
    return cast("list[Length | DataError | None]", each([_task("probe", utterance) for utterance in utterances]))


def _task(call: str, utterance: Utterance) -> Task:
    return Task(utterance.audio, call, choice=utterance.sound)


def _in_turn(tasks: Sequence[Task]) -> Iterator[Result | DataError]:
    """Yield the results of tasks done in one call, but a clip over SHORT_S on its own, in its turn.

    So what lies in memory is a few short sounds or a long one, whatever the limits: a header's word is not taken for
    it. What is decoded of a long one for nothing is less than it has itself.
    """
    results = each([replace(task, limits=_short(task.limits)) for task in tasks])
    results.reverse()
    for task in tasks:
        result = results.pop()
        if isinstance(result, DataError) and result.reason == "too_long" and task.limits.max_audio_s > SHORT_S:
            [result] = each([task])
        yield result


@lru_cache(8)
def _short(limits: AudioLimits) -> AudioLimits:
    return limits.model_copy(update={"max_audio_s": min(limits.max_audio_s, SHORT_S)})


def _only(task: Task) -> Result:
    [result] = each([task])
    if isinstance(result, DataError):
        raise result
    return result
